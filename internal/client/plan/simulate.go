package plan

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// sample is what a simulation saw.
type sample struct {
	p50, p99, mean time.Duration
	batch          float64 // rows
	busy           float64 // share of the cores
}

// arrivals is how many requests are simulated for each node: so many that the 99th
// percentile of two seeds differs by a few percent.
const arrivals = 20_000

// simulate runs one node at a rate. It is deterministic.
func (m *model) simulate(rate float64) sample { return m.cluster(rate, 1, Random) }

// cluster runs some nodes at a rate of all together. It is deterministic.
func (m *model) cluster(rate float64, count int, b Balance) sample {
	rng := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- reproducible, no secret
	nodes := make([]*node, count)
	for i := range nodes {
		nodes[i] = &node{model: m, rng: rng}
	}
	all := min(m.arrivals*count, mostArrivals)
	came, latencies := make([]float64, all), make([]float64, 0, all)
	sum, noise := 0.0, m.Jitter.Seconds()/math.Log(100) // so that the 99th percentile is the jitter
	for due, next := rng.ExpFloat64()/rate, 0; len(latencies) < all; {
		n, at := first(nodes)
		if next < all && due <= at {
			n = b.choose(nodes, next, rng)
			n.until(due)
			came[next] = due
			n.arrive(next)
			next++
			due += rng.ExpFloat64() / rate
			continue
		}
		n.until(at)
		if request, ok := n.step(); ok {
			l := at - came[request] + noise*rng.ExpFloat64()
			latencies = append(latencies, l)
			sum += l
		}
	}
	slices.Sort(latencies)
	runs, requests, busy, end := 0, 0, 0.0, 0.0
	for _, n := range nodes {
		runs, requests, busy, end = runs+n.runs, requests+n.requests, busy+n.busy, max(end, n.now)
	}
	return sample{
		p50: seconds(latencies[all/2]), p99: seconds(latencies[all*99/100]), mean: seconds(sum / float64(all)),
		batch: float64(requests*m.Rows) / float64(runs), busy: min(1, busy/end/(m.cores*float64(count))),
	}
}

// mostArrivals bounds what a simulation of many nodes takes.
const mostArrivals = 200_000

// first returns the node on which something ends first, and when.
func first(nodes []*node) (*node, float64) {
	best, at := nodes[0], math.Inf(1)
	for _, n := range nodes {
		if next := n.next(); next < at {
			best, at = n, next
		}
	}
	return best, at
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
