package serve

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// look is how often a shadow looks at whether there is capacity to spare.
const look = time.Millisecond

// work runs copies until the server closes.
func (h *shadows) work() {
	for h.ctx.Err() == nil {
		select {
		case d := <-h.queue:
			h.shade(d)
		case <-h.ctx.Done():
		}
	}
}

// shade runs a copy once there is capacity to spare.
func (h *shadows) shade(d *copied) {
	for h.busy(d.to.threads()) {
		if time.Since(d.began) >= h.cfg.Wait {
			h.drop(d, shadow.Busy)
			return
		}
		pause.For(h.ctx, look)
		if h.ctx.Err() != nil {
			break
		}
	}
	switch {
	case h.ctx.Err() != nil:
		h.drop(d, shadow.Closing)
	case !d.to.acquire():
		if d.to.offer != nil {
			h.load(d.to)
		}
		h.drop(d, shadow.Missing)
	default:
		why := h.run(d)
		d.to.release()
		if why != "" {
			h.drop(d, why)
			return
		}
		h.bytes.Add(-d.size)
		d.free()
	}
}

// unwanted is why a run is abandoned.
type unwanted struct{ why shadow.Dropped }

// Error implements error.
func (u unwanted) Error() string { return "the shadow run was abandoned: " + string(u.why) }

// run has the shadow answer and compares the answers. It returns why the copy came to
// nothing, if it did.
func (h *shadows) run(d *copied) shadow.Dropped {
	ctx, abandon := context.WithCancelCause(h.ctx)
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	var watching sync.WaitGroup
	watching.Go(func() { h.watch(ctx, d.to, abandon) })
	defer watching.Wait()
	defer cancel()
	defer abandon(nil)

	c := newCall()
	defer c.free()
	start := time.Now()
	err := h.answer(ctx, d, c, start)
	var u unwanted
	switch {
	case err == nil:
		return ""
	case errors.As(context.Cause(ctx), &u):
		return u.why
	case h.ctx.Err() != nil:
		return shadow.Closing
	}
	d.shadow.Judge.Failed()
	h.outcome(d.to, "failed")
	d.to.record(start, time.Since(start), c, err)
	return ""
}

// watch abandons a run as soon as requests need its capacity, or the run is the last that
// uses the version.
func (h *shadows) watch(ctx context.Context, v *Version, abandon context.CancelCauseFunc) {
	for pause.For(ctx, look) {
		switch {
		case h.busy(v.threads()):
			abandon(unwanted{shadow.Busy})
		case v.refs.Load() == 1:
			abandon(unwanted{shadow.Missing})
		}
	}
}

// answer has the shadow answer as spare work of its batcher, and compares the answers.
func (h *shadows) answer(ctx context.Context, d *copied, c *call, start time.Time) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			h.panicked(reason)
			err = fault.New(fault.Internal, "a shadow run has panicked")
		}
	}()
	c.request.Inputs = append(c.request.Inputs, d.inputs...)
	c.request.Tenant, c.request.Choice = d.tenant, d.choice
	if err := c.arrange(d.to); err != nil {
		return err
	}
	c.schedule(d.to, start, start)
	c.task.Class, c.task.Tenant = batcher.Bulk, ""
	ran, err := d.to.runtime.batcher.Submit(ctx, &c.task)
	if err != nil {
		return err
	}
	c.response.Timing = Timing{Queue: ran.Queue, Infer: ran.Run, BatchRows: ran.Rows}
	total := time.Since(start)
	d.to.identify(start, c)
	d.pair.Candidate.Prediction, d.pair.Candidate.Took, d.pair.Candidate.Outputs = c.request.Prediction, ran.Run, c.part.Outputs
	if d.shadow.Judge.Compare(&d.pair).Agrees() {
		h.outcome(d.to, "agreed")
	} else {
		h.outcome(d.to, "differed")
	}
	d.to.record(start, total, c, nil)
	return nil
}

func (h *shadows) outcome(v *Version, outcome string) {
	h.metrics.shadowed.WithLabelValues(v.Name, v.Text, outcome).Inc()
}
