package serve

import (
	"time"

	"sluice/internal/inference/record"
)

// Generation is the log's view of a generation: one entry, with the number of its steps and
// the sums of their times. A codec puts it into the request of each step, and then settles
// it. The zero value has not begun.
type Generation struct {
	recorder Recorder
	entry    *record.Entry // nil before the first step is settled
	start    time.Time
}

// step notes a settled step. The log keeps the tensors of the first one.
func (g *Generation) step(v *Version, start time.Time, c *call, err error) {
	if g.entry == nil {
		g.recorder, g.start, g.entry = v.runtime.recorder, start, v.entry(start, c, err)
	} else {
		t, l := &c.response.Timing, &g.entry.Latency
		l.Decode, l.Queue, l.Infer, l.Encode = l.Decode+t.Decode, l.Queue+t.Queue, l.Infer+t.Infer, l.Encode+t.Encode
		g.entry.BatchRows = t.BatchRows
	}
	if err == nil {
		g.entry.Steps++
	}
}

// Settle logs the generation; err is why it failed, and then no tensors are kept. Without
// any step there is nothing to log.
func (g *Generation) Settle(err error) {
	if g.entry == nil {
		return
	}
	e := g.entry
	g.entry = nil
	e.Latency.Total = time.Since(g.start)
	if fail(e, err); err != nil {
		e.Leave()
	}
	g.recorder.Record(e)
}
