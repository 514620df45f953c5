package stream

import (
	"bytes"
	"context"
	"slices"

	"sluice/internal/inference/model"
	"sluice/internal/inference/record"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// Generate has a model answer a request step by step. The codec decodes once, into memory
// that must stay valid until Generate returns, and encodes each step, whose place is in
// Response.Step. A generation ends with ctx, and after the step in progress when its
// credential has expired. A model that does not generate answers once, as in Step.
func (m *Models) Generate(ctx context.Context, codec serve.Codec, own *Own) error {
	name, version := codec.Target()
	v, err := m.Lookup(name, version)
	if err != nil {
		return err
	}
	if !v.Generative() {
		return m.Step(ctx, codec, own)
	}
	g := &generation{models: m, inner: codec, name: name, version: v.Text}
	defer g.close()
	for g.more() && err == nil {
		err = m.Models.Predict(ctx, g)
		g.settle(err == nil)
		if p, ok := access.From(ctx); ok && g.more() && err == nil {
			err = p.Holds(ctx, m.now())
		}
	}
	g.logged.Settle(err)
	return g.ended(err)
}

// generation is the codec of a generation's steps.
type generation struct {
	models        *Models
	inner         serve.Codec
	name, version string // the one that it began on

	request serve.Request   // as the client sent it
	inputs  []tensor.Tensor // of the next step
	held    *sequence       // counts against the limits of sequences
	asked   asked
	end     int // the place of the output that may end it; -1 for none
	limit   int
	step    serve.Step
	logged  serve.Generation
	id      record.ID // in the log, zero before the first step
	kept    kept      // of the last step
	next    kept      // of the step in progress
}

func (g *generation) more() bool { return g.step.Number == 0 || g.step.More }

// Target implements serve.Codec.
func (g *generation) Target() (name, version string) { return g.name, g.version }

// Decode implements serve.Codec.
func (g *generation) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	if g.step.Number == 0 {
		if err := g.begin(ctx, v, req); err != nil {
			return err
		}
	}
	req.ID, req.Timeout, req.Priority, req.Class, req.Tenant = g.request.ID, g.request.Timeout, g.request.Priority, g.request.Class, g.request.Tenant
	req.Inputs = append(req.Inputs[:0], g.inputs...)
	req.Outputs = append(req.Outputs[:0], g.request.Outputs...)
	req.Prediction, req.Attempt, req.Generation = g.request.Prediction, g.request.Attempt, &g.logged
	if !g.id.IsZero() {
		req.Prediction = g.id
	}
	return nil
}

// begin decodes the client's request, for the first step.
func (g *generation) begin(ctx context.Context, v *serve.Version, req *serve.Request) error {
	if err := g.inner.Decode(ctx, v, req); err != nil {
		return err
	}
	if err := checkSingle(v, req); err != nil {
		return err
	}
	if req.Sequence.ID != "" {
		return fault.New(fault.Invalid, "a generation of model '%s' is a sequence by itself: leave sequence_id out", v.Name)
	}
	var err error
	g.held, err = g.models.table.enter(ctx, key{tenant: tenant(ctx, req), model: v.Name, own: g.models.owns.Add(1)}, true)
	if err != nil {
		return err
	}
	loop := v.Config.Generate
	g.limit = loop.MaxSteps
	if req.MaxSteps > 0 {
		g.limit = min(g.limit, req.MaxSteps)
	}
	var carried []model.State
	if v.Stateful() {
		carried = v.Config.Sequence.States
		req.Inputs = append(req.Inputs, states(v, nil, true)...)
	}
	g.asked = ask(v, req, carried, loop.Feedback)
	g.end = -1
	if loop.End != nil {
		g.end = g.asked.want(req, loop.End.Output)
	}
	g.request = *req
	g.request.Outputs, g.inputs = slices.Clone(req.Outputs), slices.Clone(req.Inputs)
	return nil
}

// Encode implements serve.Codec.
func (g *generation) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	g.id, g.next = resp.Prediction, g.asked.keep(resp)
	if err := g.models.table.resize(g.held, g.next.size); err != nil {
		return err
	}
	g.step.Number++
	g.step.Ended = g.over(v.Config.Generate.End, resp)
	g.step.More = g.step.Ended == ""
	seen := g.asked.seen(resp)
	seen.Step = g.step
	return g.inner.Encode(ctx, v, &seen)
}

// over says why the step is the last one, or "".
func (g *generation) over(end *model.End, resp *serve.Response) string {
	switch {
	case g.end >= 0 && repeats(resp.Outputs[g.end].Data, end.Data):
		return serve.EndValue
	case g.step.Number >= g.limit:
		return serve.EndSteps
	}
	return ""
}

// repeats reports whether data is the value, once or several times.
func repeats(data, value []byte) bool {
	if len(data) == 0 {
		return false
	}
	for len(data) > 0 {
		if !bytes.HasPrefix(data, value) {
			return false
		}
		data = data[len(value):]
	}
	return true
}

// settle makes the step's outputs the inputs of the next one.
func (g *generation) settle(ok bool) {
	if !ok {
		return
	}
	g.models.metrics.generated.Inc()
	for i := range g.next.tensors {
		t := &g.next.tensors[i]
		at := slices.IndexFunc(g.inputs, func(in tensor.Tensor) bool { return in.Name == t.Name })
		g.inputs[at] = *t
	}
	g.kept.slab.Release()
	g.kept, g.next = g.next, kept{}
}

// close gives back what the generation holds.
func (g *generation) close() {
	g.kept.slab.Release()
	g.next.slab.Release()
	if g.held != nil {
		g.models.table.forget(g.held, "generation")
	}
}

// ended counts the end of a generation, if it has begun, and returns its error.
func (g *generation) ended(err error) error {
	switch {
	case g.held == nil:
	case err != nil:
		g.models.metrics.generations.WithLabelValues(fault.CodeOf(err)).Inc()
	default:
		g.models.metrics.generations.WithLabelValues(g.step.Ended).Inc()
	}
	return err
}
