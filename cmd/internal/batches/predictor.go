package batches

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/inference/batcher"
	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Predictor has the models of this process answer rows: work that waits for spare
// rows of online requests' runs.
type Predictor struct{ models serve.Models }

// NewPredictor returns the predictor of models.
func NewPredictor(m serve.Models) Predictor { return Predictor{m} }

// Model implements run.Predictor.
func (p Predictor) Model(name, version string) (run.Model, error) {
	v, err := p.models.Lookup(name, version)
	if err != nil {
		return run.Model{}, err
	}
	if v.Stateful() || v.Generative() || !v.Batches {
		return run.Model{}, unfit(v, "does not answer rows independent of each other")
	}
	if v.NeedsHeaders() {
		return run.Model{}, unfit(v, "finds the entity of its features in a header, which rows of files do not have")
	}
	m := run.Model{Version: v.Text, Best: v.MaxRows, Same: v.CrossRequest}
	keepPace(&m, v.Pace())
	for _, port := range v.Signature.Inputs {
		in := rowOf(port)
		if !in.Type.Readable() {
			return m, unfit(v, "has the input "+port.Name+" of the type "+string(in.Type)+", which files cannot have")
		}
		if slices.ContainsFunc(in.Shape, func(n int64) bool { return n <= 0 }) {
			return m, unfit(v, "has the input "+port.Name+", whose shape varies from row to row")
		}
		m.Inputs = append(m.Inputs, in)
	}
	for _, port := range v.Signature.Outputs {
		out := rowOf(port)
		if !out.Type.Readable() {
			return m, unfit(v, "has the output "+port.Name+" of the type "+string(out.Type)+", which results cannot have")
		}
		m.Outputs = append(m.Outputs, out)
	}
	return m, nil
}

// keepPace has the model's rows run at the pace that was measured.
func keepPace(m *run.Model, p batcher.Pace) {
	if p.Run <= 0 {
		return
	}
	m.Pace = run.Pace{Row: float64(p.Run) / float64(p.Rows), Parallel: p.Parallel, Spread: p.Spread}
	if m.Same { // else answers depend on the size of a run, which is then that of the model's settings
		m.Best = p.Rows
	}
}

func unfit(v *serve.Version, why string) error {
	return fault.New(fault.Unprocessable, "the model '%s' %s", v.Name, why).WithCode("model_not_batchable")
}

// rowOf is what one row of a port has.
func rowOf(p model.Port) run.Port {
	return run.Port{Name: p.Name, Type: ingest.Type(p.Datatype.String()), Shape: slices.Clone([]int64(p.Shape[1:]))}
}

// Predict implements run.Predictor.
func (p Predictor) Predict(ctx context.Context, a run.Ask) (run.Answer, error) {
	q := &question{Ask: a}
	err := p.models.Predict(ctx, q)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return q.answer, err
}

// question is a serve.Codec of tensors that are decoded already.
type question struct {
	run.Ask
	answer run.Answer
}

// Target implements serve.Codec.
func (q *question) Target() (model, version string) { return q.Model, q.Version }

// Decode implements serve.Codec.
func (q *question) Decode(_ context.Context, _ *serve.Version, req *serve.Request) error {
	for _, in := range q.Inputs {
		t, err := tensor.Parse(string(in.Type))
		if err != nil {
			return err
		}
		req.Inputs = append(req.Inputs, tensor.Tensor{Name: in.Name, Datatype: t, Shape: in.Shape, Data: in.Data})
	}
	req.Class, req.Tenant, req.AsOf = batcher.Bulk, q.Tenant, q.AsOf
	return nil
}

// Encode implements serve.Codec.
func (q *question) Encode(_ context.Context, _ *serve.Version, resp *serve.Response) error {
	for _, o := range resp.Outputs {
		q.answer.Outputs = append(q.answer.Outputs, run.Tensor{Name: o.Name, Type: ingest.Type(o.Datatype.String()), Shape: slices.Clone([]int64(o.Shape)), Data: bytes.Clone(o.Data)})
	}
	u := resp.Use
	q.answer.Used = job.Used{Rows: int64(u.Rows), ComputeUS: int64(u.Compute / time.Microsecond), InputBytes: u.InputBytes, OutputBytes: u.OutputBytes}
	return nil
}
