package serve

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/engine"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// call is everything that one prediction needs, pooled as a whole.
type call struct {
	request  Request
	response Response
	part     engine.Part
	task     batcher.Task[*call]
	wanted   []int // indices of the outputs to answer with, in the order asked
	asker    asker
	inner    bool            // it is for a node of a graph; only the request to the graph is logged and charged
	result   *graph.Result   // of a graph; it owns the outputs' memory
	times    []tensor.Tensor // when the features that were fetched became known
	fetched  int64           // bytes that are held for them
	fallback string          // the version that refused the request, where another one answers; see Response
	holding  holding
	holds    *holding // counts the memory of a graph's tensors: holding, or that of the graph around it
}

var calls = sync.Pool{New: func() any {
	c := new(call)
	c.task.Value = c
	return c
}}

func newCall() *call { return calls.Get().(*call) }

// free empties the call and gives it back. Slices keep their capacity, but no
// view of a request's memory may survive in them.
func (c *call) free() {
	clear(c.request.Inputs)
	clear(c.request.Outputs)
	c.request = Request{Inputs: c.request.Inputs[:0], Outputs: c.request.Outputs[:0]}
	clear(c.response.Outputs)
	c.response = Response{Outputs: c.response.Outputs[:0], Ports: c.response.Ports[:0]}
	c.part.Reset()
	c.wanted = c.wanted[:0]
	c.asker, c.inner, c.fallback, c.times = asker{}, false, "", nil
	c.result.Release()
	if c.fetched != 0 {
		c.holds.Return(c.fetched)
	}
	c.fetched = 0
	c.result, c.holds, c.holding.account = nil, nil, nil
	calls.Put(c)
}

// ask returns what to route the request by.
func (c *call) ask(ctx context.Context, codec Codec) (name, version string, r experiment.Request) {
	name, version = codec.Target()
	c.asker = asker{ctx: ctx, codec: codec}
	return name, version, &c.asker
}

// arrange checks the request against the signature and puts its inputs into
// the model's order. The texts are those that clients of the protocol match on.
func (c *call) arrange(v *Version) error {
	sig := v.graph
	if got := len(c.request.Inputs); got != len(sig.Inputs) {
		states := 0
		if v.Config.Sequence != nil {
			states = len(sig.Inputs) - len(v.Signature.Inputs)
		}
		return fault.New(fault.Invalid, "expected %d inputs but got %d inputs for model '%s'", len(sig.Inputs)-states, got-states, v.Name)
	}
	for i := range sig.Inputs {
		at := i // clients mostly send inputs in order
		if c.request.Inputs[at].Name != sig.Inputs[i].Name {
			if at = find(c.request.Inputs, sig.Inputs[i].Name); at < 0 {
				return c.missingInput(v, sig.Inputs[i].Name)
			}
		}
		if err := v.checkInput(&sig.Inputs[i], &c.request.Inputs[at]); err != nil {
			return err
		}
		c.part.Inputs = append(c.part.Inputs, c.request.Inputs[at])
	}
	if err := c.countRows(v); err != nil {
		return err
	}
	for _, t := range v.ties {
		a, b := &c.part.Inputs[t.input], &c.part.Inputs[t.otherInput]
		if a.Shape[t.dim] != b.Shape[t.otherDim] {
			return fault.New(fault.Invalid, "unexpected shape for input '%s' for model '%s': %s, but dimension %d must be as dimension %d of input '%s', which is %s",
				a.Name, v.Name, a.Shape, t.dim, t.otherDim, b.Name, b.Shape)
		}
	}
	return c.chooseOutputs(v)
}

func find(inputs []tensor.Tensor, name string) int {
	for i := range inputs {
		if inputs[i].Name == name {
			return i
		}
	}
	return -1
}

// missingInput is the error for an input that was not sent. If the client sent one that the
// model does not have, it names that: most likely its name is wrong.
func (c *call) missingInput(v *Version, name string) error {
	for i := range c.request.Inputs {
		if v.graph.Input(c.request.Inputs[i].Name) < 0 {
			return fault.New(fault.Invalid, "unexpected inference input '%s' for model '%s': it takes %s", c.request.Inputs[i].Name, v.Name, portNames(v.Signature.Inputs))
		}
	}
	return fault.New(fault.Invalid, "input '%s' of model '%s' is missing: every input must be given exactly once", name, v.Name)
}

// countRows sets how many rows of a run the request takes.
func (c *call) countRows(v *Version) error {
	c.part.Rows = 1
	if !v.Batches {
		return nil
	}
	rows := c.part.Inputs[0].Rows()
	for i := range c.part.Inputs {
		if c.part.Inputs[i].Rows() != rows {
			return fault.New(fault.Invalid, "input '%s' batch size does not match other inputs for '%s': %d and %d rows",
				c.part.Inputs[i].Name, v.Name, c.part.Inputs[i].Rows(), rows)
		}
	}
	if rows > int64(v.MaxRows) {
		return fault.New(fault.Invalid, "inference request batch-size must be <= %d for '%s', got %d", v.MaxRows, v.Name, rows).WithCode("batch_too_large")
	}
	c.part.Rows = int(rows)
	return nil
}

func (c *call) chooseOutputs(v *Version) error {
	for _, name := range c.request.Outputs {
		o := v.graph.Output(name)
		if o < 0 {
			return fault.New(fault.Invalid, "unexpected inference output '%s' for model '%s': it gives %s", name, v.Name, portNames(v.Signature.Outputs))
		}
		if slices.Contains(c.wanted, o) {
			return fault.New(fault.Invalid, "output '%s' is asked for twice", name)
		}
		c.wanted = append(c.wanted, o)
	}
	if len(c.wanted) == 0 {
		for o := range v.graph.Outputs {
			c.wanted = append(c.wanted, o)
		}
	}
	return nil
}

// schedule fills the batcher's task. Requests share a run where the extents
// beyond the rows agree.
func (c *call) schedule(v *Version, since, now time.Time) {
	c.task.Rows = c.part.Rows
	c.task.Bucket = v.bucket(c.part.Inputs)
	c.task.Class, c.task.Priority, c.task.Tenant = c.request.Class, c.request.Priority, c.request.Tenant
	c.task.Err, c.task.Deadline, c.task.Since = nil, time.Time{}, since
	if c.request.Timeout > 0 {
		c.task.Deadline = now.Add(c.request.Timeout)
	}
}

// answer fills the response with the wanted outputs.
func (c *call) answer(v *Version, timing Timing) {
	for _, o := range c.wanted {
		c.response.Outputs = append(c.response.Outputs, c.part.Outputs[o])
		c.response.Ports = append(c.response.Ports, &v.graph.Outputs[o])
	}
	c.response.Timing, c.response.Prediction, c.response.Choice = timing, c.request.Prediction, c.request.Choice
	c.response.Fallback = c.fallback
	u := Use{Rows: c.part.Rows, Compute: timing.Infer * time.Duration(c.part.Rows) / time.Duration(max(timing.BatchRows, c.part.Rows, 1))}
	if c.result != nil {
		u.Compute = c.result.Compute
	}
	for i := range c.part.Inputs {
		u.InputBytes += int64(len(c.part.Inputs[i].Data))
	}
	for i := range c.response.Outputs {
		u.OutputBytes += int64(len(c.response.Outputs[i].Data))
	}
	c.response.Use = u
}

var bucketSeed = maphash.MakeSeed()

// bucket identifies the varying extents beyond the rows. Where two shapes ever
// met in one bucket, the engine would refuse the run and each request would be
// run by itself: a collision costs time, not correctness.
func (v *Version) bucket(inputs []tensor.Tensor) uint64 {
	if !v.varying {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(bucketSeed)
	for i := range inputs {
		for d := 1; d < len(inputs[i].Shape); d++ {
			maphash.WriteComparable(&h, inputs[i].Shape[d])
		}
	}
	return h.Sum64()
}

// checkInput compares one input with what the model declares.
func (v *Version) checkInput(p *model.Port, t *tensor.Tensor) error {
	if t.Datatype != p.Datatype {
		return fault.New(fault.Invalid, "inference input '%s' data-type is '%s', but model '%s' expects '%s'", p.Name, t.Datatype, v.Name, p.Datatype)
	}
	if !matches(p.Shape, t.Shape) {
		return fault.New(fault.Invalid, "unexpected shape for input '%s' for model '%s'. Expected %s, got %s.", p.Name, v.Name, p.Shape, t.Shape)
	}
	if err := t.Validate(); err != nil {
		return fault.New(fault.Invalid, "input '%s' for model '%s': %s", p.Name, v.Name, fault.Of(err).Message)
	}
	return nil
}

func matches(want, got tensor.Shape) bool {
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] >= 0 && want[i] != got[i] {
			return false
		}
	}
	return true
}

func portNames(ports []model.Port) string {
	b := []byte{}
	for i := range ports {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(append(b, '\''), ports[i].Name...), '\'')
	}
	return string(b)
}
