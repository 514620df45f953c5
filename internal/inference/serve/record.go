package serve

import (
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/model"
	"sluice/internal/inference/record"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Recorder logs settled requests. *record.Log implements it.
type Recorder interface {
	// Entry returns an empty entry.
	Entry() *record.Entry
	// Record takes an entry that Entry returned. It must not block.
	Record(e *record.Entry)
}

// identify gives the request an id, unless it has one.
func (v *Version) identify(start time.Time, c *call) {
	if v.runtime.recorder != nil && !c.inner && c.request.Prediction.IsZero() {
		c.request.Prediction = record.NewID(start)
	}
}

// record logs a settled request; err is why it failed. Steps of a generation are gathered
// until that is over.
func (v *Version) record(start time.Time, total time.Duration, c *call, err error) {
	if v.runtime.recorder == nil || c.inner || c.request.Unlogged {
		return
	}
	v.identify(start, c)
	if g := c.request.Generation; g != nil {
		g.step(v, start, c, err)
		return
	}
	e := v.entry(start, c, err)
	e.Latency.Total = total
	v.runtime.recorder.Record(e)
}

// entry returns the entry of a settled request, without its total time.
func (v *Version) entry(start time.Time, c *call, err error) *record.Entry {
	r, t := &c.request, &c.response.Timing
	e := v.runtime.recorder.Entry()
	e.ID, e.Attempt, e.At, e.Choice = r.Prediction, r.Attempt, start.UTC().Truncate(time.Millisecond), r.Choice
	e.Tenant, e.Model, e.Version, e.Bulk = r.Tenant, v.Name, v.Text, r.Class == batcher.Bulk
	if at, known := r.Prediction.Time(); known && r.Attempt == 0 {
		e.At = at
	}
	if len(r.ID) <= record.MaxClientRef {
		e.ClientRef = r.ID
	}
	fail(e, err)
	if c.fallback != "" {
		e.FellBack()
	}
	e.Rows, e.BatchRows = c.part.Rows, t.BatchRows
	e.Latency = record.Latency{Decode: t.Decode, Queue: t.Queue, Infer: t.Infer, Encode: t.Encode}
	if p := v.logging; p != nil && err == nil && p.Takes(e.Tenant) {
		if e.Take(p, c.part.Inputs, c.part.Outputs) {
			e.TakeTimes(p, c.times)
		}
	}
	return e
}

// fail notes why a prediction failed, if it did.
func fail(e *record.Entry, err error) {
	if err != nil {
		e.Outcome, e.Code = record.OutcomeOf(err), fault.CodeOf(err)
	}
}

// logging returns the policy that the model's configuration has for the log; nil for none.
func logging(v *Version) (*record.ContentPolicy, error) {
	text := v.Config.Parameters[record.PolicyParameter]
	if text == "" {
		return nil, nil //nolint:nilnil // nil keeps nothing
	}
	p, err := record.ParseContentPolicy(text)
	if err != nil {
		return nil, err
	}
	return p, p.Fit(tensors(v.Logged()), tensors(v.Signature.Outputs))
}

// Logged returns the inputs that the prediction log may keep: the values of features, but
// not the entities that they are of.
func (v *Version) Logged() []model.Port {
	if v.Config.Features != nil {
		return v.graph.Inputs
	}
	return v.Signature.Inputs
}

// tensors are ports as tensors without data.
func tensors(ports []model.Port) []tensor.Tensor {
	out := make([]tensor.Tensor, len(ports))
	for i, p := range ports {
		out[i] = tensor.Tensor{Name: p.Name, Datatype: p.Datatype, Shape: p.Shape}
	}
	return out
}
