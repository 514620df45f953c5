package plan

import (
	"math"
	"time"
)

// model is a node under a demand.
type model struct {
	Demand
	cores    float64 // that others leave
	parallel int
	most     int         // requests in a run: more of them would not pay
	knee     int         // requests in a run that give nine tenths of what most gives; 1 where company does not pay
	runs     [][]float64 // seconds, by other runs and by requests less one
	sigma    float64     // of the logarithm of run times
	arrivals int         // to simulate for each node
}

// The batcher's: it runs tasks together where that gives so many times the rows per
// second of a single one, and waits for the end of a run that another would slow
// down by so much.
const (
	paysFrom     = 1.25
	disturbsFrom = 1.2
)

func newModel(n Node, d Demand) (*model, error) {
	if err := d.check(n); err != nil {
		return nil, err
	}
	m := &model{Demand: d, cores: float64(n.Cores) * (1 - d.Others), arrivals: arrivals}
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
	alone := m.runs[0]
	rate := func(b int) float64 { return float64(b) / alone[b-1] }
	m.knee = 1
	for rate(m.most) >= paysFrom*rate(1) && rate(m.knee) < .9*rate(m.most) {
		m.knee++
	}
	return m, nil
}

// peak is the rate at which full runs, one after the other, just keep up with the
// arrivals: either all p executors always run, or all cores are always busy with
// runs and with requests, λ = min(p·b/T(b), m/(h + T(b)/b)).
func (m *model) peak() float64 {
	each := m.runs[m.parallel-1][m.most-1] / float64(m.most) // of a run, for one request
	return min(float64(m.parallel)/each, m.cores/(m.Request.Seconds()+each))
}

// waits says whether so many requests rather wait for the end of one of the runs in
// progress, or for those that are about to join them, than run now.
func (m *model) waits(requests, running, coming int) bool {
	if requests >= m.knee {
		return false
	}
	return coming > 0 || running > 0 && m.runs[running][min(requests, m.most)-1] >= disturbsFrom*m.runs[0][min(requests, m.most)-1]
}

// How many slices a request waits for at most: half of them all cores' utilisation times
// what queues behind it (ρ²/(1−ρ), as in a queue with one server), and of a hundred the
// slowest some of several threads in turn: the network's, those that decode and
// encode, that of the run, and the client's.
const (
	medianSlices = 0.5
	tailSlices   = 6
	mostBusy     = 0.95 // beyond it there is no bound
)

// unbounded is a latency of which no most is known.
const unbounded = time.Duration(math.MaxInt64)

// atMost adds to a sample what threads wait for a core that the node or others have, at most.
func (m *model) atMost(s sample) sample {
	if m.Slice == 0 {
		return s
	}
	busy := m.Others + (1-m.Others)*s.busy
	if busy > mostBusy {
		s.p50, s.p99 = unbounded, unbounded
		return s
	}
	s.p50 += time.Duration(medianSlices * busy * busy / (1 - busy) * float64(m.Slice))
	s.p99 += time.Duration(tailSlices * busy * float64(m.Slice))
	s.p99 = max(s.p99, s.p50)
	return s
}
