package stream

import (
	"context"
	"slices"
	"sync"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/access"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// step is a codec around another one. For a stateful model it adds the states to
// the inputs, and takes them off the outputs; for all others it does nothing.
type step struct {
	models *Models
	inner  serve.Codec
	own    *Own

	held    *sequence // whose turn this step has; nil for models without state
	fresh   bool      // the sequence begins anew
	end     bool      // the sequence ends with this step
	before  int64     // the sequence's size before this step
	asked   asked
	kept    kept
	version *serve.Version
}

var steps = sync.Pool{New: func() any { return new(step) }}

// Target implements serve.Codec. A stream's own sequence stays with its version.
func (s *step) Target() (name, version string) {
	name, version = s.inner.Target()
	if s.own != nil && s.own.version != "" {
		version = s.own.version
	}
	return name, version
}

// Online implements serve.Online. Steps of a stream wait for their turn in Decode, so they
// are not refused before it.
func (s *step) Online() int {
	if o, ok := s.inner.(serve.Online); ok && s.own == nil {
		return o.Online()
	}
	return -1
}

// Value implements serve.Asking.
func (s *step) Value(ctx context.Context, from experiment.Source, name string) string {
	if c, ok := s.inner.(serve.Asking); ok {
		return c.Value(ctx, from, name)
	}
	return ""
}

// Account implements serve.Holding.
func (s *step) Account() *budget.Account {
	if c, ok := s.inner.(serve.Holding); ok {
		return c.Account()
	}
	return nil
}

// Decode implements serve.Codec.
func (s *step) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	if err := s.inner.Decode(ctx, v, req); err != nil {
		return err
	}
	switch {
	case v.Generative():
		return errSteps(v)
	case !v.Stateful():
		return nil
	}
	if err := s.enter(ctx, v, req); err != nil {
		return err
	}
	req.Inputs = append(req.Inputs, states(v, s.held, s.fresh)...)
	s.asked = ask(v, req, v.Config.Sequence.States, nil)
	return nil
}

// enter finds the sequence that the request is a step of, and waits for its turn.
func (s *step) enter(ctx context.Context, v *serve.Version, req *serve.Request) error {
	if err := checkSingle(v, req); err != nil {
		return err
	}
	q := &req.Sequence
	k := key{tenant: tenant(ctx, req), model: v.Name, id: q.ID}
	start := q.Start
	switch {
	case len(q.ID) > maxID:
		return fault.New(fault.Invalid, "the sequence id has %d bytes; at most %d are possible", len(q.ID), maxID)
	case q.ID == "" && s.own == nil:
		return fault.New(fault.Invalid, "inference request to model '%s' must specify a non-zero or non-empty correlation ID: it keeps state, so name a sequence with sequence_id, or use a stream", v.Name).WithCode("sequence_missing")
	case q.ID == "":
		k.own = s.own.id
		start = start || s.own.held == nil
	}
	held, err := s.models.table.enter(ctx, k, start)
	if err != nil {
		return err
	}
	s.held, s.version, s.before = held, v, held.size
	s.fresh, s.end = start || held.states == nil, q.End
	if !s.fresh && (held.version != v.Text || held.sha256 != v.SHA256) {
		return fault.New(fault.Conflict, "the sequence began on version %s of model '%s', which does not answer it any more: begin it again with sequence_start, or name the version in every request", held.version, v.Name).
			WithCode("sequence_version_changed")
	}
	return nil
}

// maxID bounds the names of sequences, in bytes.
const maxID = 1024

// checkSingle refuses what cannot be a step: clients do not give states, and a
// step is one row.
func checkSingle(v *serve.Version, req *serve.Request) error {
	for i := range req.Inputs {
		if v.Signature.Input(req.Inputs[i].Name) < 0 {
			return fault.New(fault.Invalid, "unexpected inference input '%s' for model '%s'", fault.Clip(req.Inputs[i].Name, 100), v.Name)
		}
		if v.Batches && req.Inputs[i].Rows() != 1 {
			return fault.New(fault.Invalid, "inference request to model '%s' must specify batch-size 1 due to requirements of sequence batcher, got %d", v.Name, req.Inputs[i].Rows()).WithCode("batch_too_large")
		}
	}
	for _, name := range req.Outputs {
		if v.Signature.Output(name) < 0 {
			return fault.New(fault.Invalid, "unexpected inference output '%s' for model '%s'", fault.Clip(name, 100), v.Name)
		}
	}
	return nil
}

// tenant returns whose sequence it is.
func tenant(ctx context.Context, req *serve.Request) string {
	if p, ok := access.From(ctx); ok {
		return p.Tenant
	}
	return req.Tenant
}

// states returns the inputs that the server adds: the sequence's states, or those that a
// sequence begins with.
func states(v *serve.Version, held *sequence, fresh bool) []tensor.Tensor {
	if !fresh {
		return held.states
	}
	list := make([]tensor.Tensor, 0, len(v.Config.Sequence.States))
	for i := range v.Config.Sequence.States {
		s := &v.Config.Sequence.States[i]
		shape := s.InitialDims
		if v.Batches {
			shape = append(tensor.Shape{1}, shape...)
		}
		list = append(list, tensor.Tensor{Name: s.Input, Datatype: s.Datatype, Shape: shape, Data: s.First})
	}
	return list
}

// Encode implements serve.Codec.
func (s *step) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	if s.held == nil {
		return s.inner.Encode(ctx, v, resp)
	}
	s.kept = s.asked.keep(resp)
	if err := s.models.table.resize(s.held, s.kept.size); err != nil {
		return err
	}
	seen := s.asked.seen(resp)
	return s.inner.Encode(ctx, v, &seen)
}

// settle gives the sequence the states that the step made, or leaves the old ones.
func (s *step) settle(ok bool) {
	h := s.held
	if h == nil {
		return
	}
	t := s.models.table
	s.models.metrics.step(ok)
	switch {
	case ok && s.end:
		s.kept.slab.Release()
		s.belongs(nil)
		t.forget(h, "end")
		return
	case ok:
		h.slab.Release()
		h.slab, h.states = s.kept.slab, s.kept.tensors
		h.version, h.sha256, h.idle = s.version.Text, s.version.SHA256, s.version.Config.Sequence.IdleTimeout
		s.belongs(h)
	case h.states == nil: // its first step failed
		s.kept.slab.Release()
		t.forget(h, "failed")
		return
	default:
		s.kept.slab.Release()
		t.restore(h, s.before)
	}
	t.leave(h)
}

// belongs notes the sequence of the step as the stream's own, nil for none any more.
func (s *step) belongs(h *sequence) {
	if s.own == nil || s.held.key.own == 0 {
		return
	}
	s.own.held, s.own.version = h, ""
	if h != nil {
		s.own.version = h.version
	}
}

// reword says what it means that a version is not found: a stream's own sequence is on it.
func (s *step) reword(err error) error {
	if err == nil || s.own == nil || s.own.version == "" || fault.CodeOf(err) != "version_not_found" {
		return err
	}
	name, _ := s.inner.Target()
	return fault.New(fault.Conflict, "version %s of model '%s', which the stream's sequence is on, is not served any more: open a new stream", s.own.version, name).WithCode("sequence_version_changed")
}

// errSteps refuses to answer a generative model's request with one answer.
func errSteps(v *serve.Version) error {
	return fault.New(fault.Unsupported, "model '%s' answers step by step, with as many answers as it takes: ask for a stream, over ModelStreamInfer, a WebSocket, generate_stream, or a prediction with Accept: text/event-stream", v.Name).WithCode("stream_needed")
}

// asked are the outputs that a request asks for: first those that the client wants, then
// those of the ones that the server keeps which are not among them.
type asked struct {
	client int      // how many the client wants
	at     []int    // the place of each output that is kept
	as     []string // the name of the input that it becomes
}

// ask adds the outputs that are kept to those that the request asks for.
func ask(v *serve.Version, req *serve.Request, states []model.State, feedback []model.Feedback) asked {
	if len(req.Outputs) == 0 {
		for i := range v.Signature.Outputs {
			req.Outputs = append(req.Outputs, v.Signature.Outputs[i].Name)
		}
	}
	a := asked{client: len(req.Outputs), at: make([]int, 0, len(states)+len(feedback))}
	for _, f := range feedback {
		a.keepAs(req, f.Output, f.Input)
	}
	for i := range states {
		a.keepAs(req, states[i].Output, states[i].Input)
	}
	return a
}

func (a *asked) keepAs(req *serve.Request, output, input string) {
	at := a.want(req, output)
	a.at, a.as = append(a.at, at), append(a.as, input)
}

// want returns the place of an output, and adds it if it is not asked for yet.
func (a *asked) want(req *serve.Request, output string) int {
	at := slices.Index(req.Outputs, output)
	if at < 0 {
		at = len(req.Outputs)
		req.Outputs = append(req.Outputs, output)
	}
	return at
}

// seen returns the response without what only the server keeps.
func (a *asked) seen(resp *serve.Response) serve.Response {
	r := *resp
	r.Outputs, r.Ports = resp.Outputs[:a.client:a.client], resp.Ports[:a.client:a.client]
	return r
}

// kept is a copy of the outputs that are inputs of the next step.
type kept struct {
	tensors []tensor.Tensor
	slab    *tensor.Slab
	size    int64
}

// keep copies the outputs that are kept.
func (a *asked) keep(resp *serve.Response) kept {
	size := 0
	for _, at := range a.at {
		size += len(resp.Outputs[at].Data)
	}
	k := kept{tensors: make([]tensor.Tensor, len(a.at)), slab: tensor.GetSlab(size)}
	b := k.slab.B[:0]
	for i, at := range a.at {
		out := &resp.Outputs[at]
		begin := len(b)
		b = append(b, out.Data...)
		k.tensors[i] = tensor.Tensor{Name: a.as[i], Datatype: out.Datatype, Shape: slices.Clone(out.Shape), Data: b[begin:len(b):len(b)]}
	}
	k.slab.B, k.size = b, int64(cap(b))
	return k
}
