package scenario

import (
	"sync"
	"time"

	"sluice/loadtest/load"
)

// Cell is what became of the requests that were due in some time.
type Cell struct {
	Due, OK, Good, Refused, Failed, Unsent int
	Latency, First, Refusal                load.Histogram
}

func (c *Cell) record(s load.Sample, slo time.Duration) {
	c.Due++
	switch s.Outcome {
	case load.OK:
		c.OK++
		if slo == 0 || s.Latency <= slo {
			c.Good++
		}
		c.Latency.Record(s.Latency)
		if s.First > 0 {
			c.First.Record(s.First)
		}
	case load.Refused:
		c.Refused++
		c.Refusal.Record(s.Latency)
	case load.Failed:
		c.Failed++
	case load.Unsent:
		c.Unsent++
	}
}

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

// record counts a request where it was due.
func (r *Series) record(s load.Sample) {
	at := s.Due.Sub(r.begin)
	phase := 0
	for phase < len(r.ends)-1 && at >= r.ends[phase] {
		phase++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phases[phase].record(s, r.slo)
	if i := int(at / time.Second); i >= 0 && i < len(r.second) {
		r.second[i].record(s, r.slo)
	}
	if s.Err != nil && r.err == nil {
		r.err = s.Err
	}
}

// recovery returns how long after the beginning of a phase the 99th percentile of
// every second to come is at most a tenth above the worst second of an earlier
// phase, and nothing is refused that was not before. It is the phase's whole
// length where that never came.
func (r *Series) recovery(phase, before int) time.Duration {
	seconds := func(phase int) (from, to int) {
		if phase > 0 {
			from = int((r.ends[phase-1] + time.Second - 1) / time.Second)
		}
		return from, int(r.ends[phase] / time.Second)
	}
	normal := time.Duration(0)
	for from, to := seconds(before); from < to; from++ {
		normal = max(normal, r.second[from].Latency.Quantile(0.99))
	}
	normal += normal / 10
	from, to := seconds(phase)
	back := to
	for back > from {
		c := &r.second[back-1]
		if c.Latency.Quantile(0.99) > normal || c.Refused+c.Failed+c.Unsent > 0 {
			break
		}
		back--
	}
	return time.Duration(back-from) * time.Second
}
