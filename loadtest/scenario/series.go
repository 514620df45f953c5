package scenario

import (
	"math"
	"slices"
	"sync"
	"time"

	"sluice/loadtest/load"
)

// Series is the requests of one kind of traffic by phase and by second.
type Series struct {
	slo    time.Duration
	begin  time.Time
	ends   []time.Duration // of the phases
	mu     sync.Mutex
	phases []Cell
	second []Cell
	err    error // the first failure
}

func newSeries(s *Scenario, t *Traffic, begin time.Time) *Series {
	r := &Series{slo: t.SLO, begin: begin, phases: make([]Cell, len(s.Phases)), second: make([]Cell, int(s.length()/time.Second)+1)}
	for i, p := range s.Phases {
		r.ends = append(r.ends, s.begins(i)+p.For)
	}
	return r
}

// record counts a request in the phase and second in which it was due, and a good answer also in the phase in which it came.
func (r *Series) record(s load.Sample) {
	at := s.Due.Sub(r.begin)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phases[r.phase(at)].record(s, r.slo)
	if s.Outcome == load.OK && (r.slo == 0 || s.Latency <= r.slo) && at+s.Latency < r.ends[len(r.ends)-1] {
		r.phases[r.phase(at+s.Latency)].Ended++
	}
	if i := int(at / time.Second); i >= 0 && i < len(r.second) {
		r.second[i].record(s, r.slo)
	}
	if s.Err != nil && r.err == nil {
		r.err = s.Err
	}
}

// phase returns the phase at a time, the last one after its end.
func (r *Series) phase(at time.Duration) int {
	phase := 0
	for phase < len(r.ends)-1 && at >= r.ends[phase] {
		phase++
	}
	return phase
}

// recovery returns how long after the beginning of a phase all is normal again until its end, and whether it is at
// all. Normal is up to a tenth above the 99th percentile of an earlier phase: the 99th percentile of the rest is within
// that, no second has a tenth of its requests beyond it, and nothing is refused, failed or unsent. Of both percentiles
// that end of the 95 % interval is taken which is nearer to the other: among some hundred requests the slowest few
// decide, and two equal phases differ by more than a tenth.
func (r *Series) recovery(phase, before int) (after time.Duration, came bool) {
	normal := p99(&r.phases[before].Latency, +1)
	normal += normal / 10
	var rest load.Histogram
	for i, c := range slices.Backward(r.within(phase)) {
		if c.Refused+c.Failed+c.Unsent > 0 || c.Latency.Quantile(0.9) > normal {
			break
		}
		rest.Add(&c.Latency)
		if rest.Count() > 0 && p99(&rest, -1) <= normal {
			after, came = time.Duration(i)*time.Second, true
		}
	}
	return after, came
}

// p99 returns an end of the one-sided 95 % interval of the 99th percentile, the upper one for side 1 and the
// lower one for -1. How many lie below the percentile is binomial, which is taken as normal here.
func p99(h *load.Histogram, side float64) time.Duration {
	n := float64(h.Count())
	if n == 0 {
		return 0
	}
	return h.Quantile(min(0.99+side*1.645*math.Sqrt(0.99*0.01/n), 1))
}
