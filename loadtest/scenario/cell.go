package scenario

import (
	"time"

	"sluice/loadtest/load"
)

// Cell counts what became of the requests that were due in a span of time.
type Cell struct {
	Due, OK, Good, Refused, Failed, Unsent int
	Ended                                  int // answered in time then, whenever they were due
	Latency, First, Refusal                load.Histogram
	Queued, Served                         load.Histogram // as the server says
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
		if s.Timing.Total > 0 {
			c.Queued.Record(s.Timing.Queue)
			c.Served.Record(s.Timing.Total)
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

// add counts everything that another counted.
func (c *Cell) add(o *Cell) {
	c.Due, c.OK, c.Good, c.Ended = c.Due+o.Due, c.OK+o.OK, c.Good+o.Good, c.Ended+o.Ended
	c.Refused, c.Failed, c.Unsent = c.Refused+o.Refused, c.Failed+o.Failed, c.Unsent+o.Unsent
	c.Latency.Add(&o.Latency)
	c.First.Add(&o.First)
	c.Refusal.Add(&o.Refusal)
	c.Queued.Add(&o.Queued)
	c.Served.Add(&o.Served)
}

func sum(cells []Cell) *Cell {
	total := &Cell{}
	for i := range cells {
		total.add(&cells[i])
	}
	return total
}

// lost counts what was neither answered nor refused. Percentiles count it as later than every answer: a
// server that stalls would otherwise look better the more requests it keeps waiting.
func (c *Cell) lost() int { return c.Unsent + c.Failed }

// ms is a quantile in milliseconds, counting lost requests as the latest: the greatest time measured where it lies among those.
func ms(h *load.Histogram, lost int, q float64) float64 {
	at, _ := h.Beside(lost, q)
	return millis(at)
}
