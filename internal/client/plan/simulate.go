package plan

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// model is a node under a demand.
type model struct {
	Demand
	cores, parallel int
	most            int         // requests in a run: more of them would not pay
	runs            [][]float64 // seconds, by other runs and by requests less one
	sigma           float64     // of the logarithm of run times
}

func newModel(n Node, d Demand) (*model, error) {
	if err := d.check(n); err != nil {
		return nil, err
	}
	m := &model{Demand: d, cores: n.Cores}
	best, most := 0.0, max(n.MaxRows/d.Rows, 1)
	for k := range n.Executors { // as many runs at a time, and as many rows in each, as give the most
		costs := n.known(k)
		if len(costs) == 0 {
			break
		}
		times := make([]float64, most)
		for b := range times {
			times[b] = run(costs, (b+1)*d.Rows)
			if rate := float64((k+1)*(b+1)) / times[b]; rate > 1.02*best {
				best, m.parallel, m.most = rate, k+1, b+1
			}
		}
		m.runs = append(m.runs, times)
	}
	if m.parallel == 0 {
		return nil, d.check(Node{Model: n.Model, MaxRows: n.MaxRows, Executors: n.Executors, Cores: n.Cores}) // costs without a time
	}
	m.sigma = math.Log(max(n.Spread, 1)) / 1.645 // so that the 95th percentile is the spread
	return m, nil
}

// stretch is how much slower runs are because requests take cores from them; it is
// infinite where they leave nothing.
func (m *model) stretch(rate float64) float64 {
	taken := rate*m.Request.Seconds() - float64(m.cores-m.parallel)
	left := 1 - max(0, taken)/float64(m.parallel)
	if left <= 0 {
		return math.Inf(1)
	}
	return 1 / left
}

// peak is the rate at which full runs, one after the other, keep up with the
// arrivals: λ = p·b/(s(λ)·T(b)) for the best numbers p and b, by bisection,
// since requests slow the runs down.
func (m *model) peak() float64 {
	full := float64(m.parallel*m.most) / m.runs[m.parallel-1][m.most-1]
	lo, hi := 0.0, full
	for range 60 {
		if mid := (lo + hi) / 2; full/m.stretch(mid) >= mid {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// sample is what a simulation saw.
type sample struct {
	p50, p99, mean time.Duration
	batch          float64 // rows
	busy           float64 // share of the cores
}

// arrivals is how many requests are simulated: so many that the 99th percentile of
// two seeds differs by a few percent.
const arrivals = 20_000

// simulate runs the queue at a rate. It is deterministic.
func (m *model) simulate(rate float64) sample {
	stretch := m.stretch(rate)
	if math.IsInf(stretch, 1) {
		return sample{p50: math.MaxInt64, p99: math.MaxInt64, mean: math.MaxInt64}
	}
	rng := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- reproducible, no secret
	due := make([]float64, arrivals)
	at := 0.0
	for i := range due {
		at += rng.ExpFloat64() / rate
		due[i] = at
	}
	free := make([]float64, m.parallel) // when each executor is free
	latencies := make([]float64, 0, arrivals)
	runs, busy, sum := 0, 0.0, 0.0
	for next := 0; next < arrivals; {
		e := 0
		for i := range free {
			if free[i] < free[e] {
				e = i
			}
		}
		start := max(free[e], due[next])
		beside := 0
		for i := range free {
			if i != e && free[i] > start {
				beside++
			}
		}
		b := 1
		for next+b < arrivals && b < m.most && due[next+b] <= start {
			b++
		}
		took := m.runs[beside][b-1] * stretch * math.Exp(m.sigma*rng.NormFloat64())
		free[e] = start + took
		busy += took
		runs++
		for _, d := range due[next : next+b] {
			l := free[e] - d + m.Request.Seconds()
			latencies = append(latencies, l)
			sum += l
		}
		next += b
	}
	slices.Sort(latencies)
	at = max(at, slices.Max(free))
	return sample{
		p50: seconds(latencies[arrivals/2]), p99: seconds(latencies[arrivals*99/100]), mean: seconds(sum / arrivals),
		batch: float64(arrivals*m.Rows) / float64(runs), busy: min(1, (busy/stretch/at+rate*m.Request.Seconds())/float64(m.cores)),
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
