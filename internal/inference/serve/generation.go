package serve

import (
	"time"

	"sluice/internal/inference/record"
)

// Generation is the one prediction that the steps of a generation are: one entry of the
// log, with their number and the sums of where their time went. A codec gives it to the
// request of each step, one after the other, and settles it. The zero value is one that
// has not begun.
type Generation struct {
	recorder Recorder
	entry    *record.Entry // nil before the first step is settled
	start    time.Time
}

// step takes note of a settled step. The log has the tensors of the first one.
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

// Settle logs the generation, which failed with err or did not. Of one that failed no
// tensors are kept. Without a step there is nothing to log.
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
