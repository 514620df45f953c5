package batches

import (
	"context"
	"slices"
	"testing"
	"time"

	"sluice/internal/batch/run"
	"sluice/internal/inference/batcher"
	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// models serves one version, which gives back its first input.
type models struct {
	serve.Models
	v *serve.Version
}

func (m models) Lookup(string, string) (*serve.Version, error) { return m.v, nil }

func (m models) Predict(ctx context.Context, c serve.Codec) error {
	var req serve.Request
	if err := c.Decode(ctx, m.v, &req); err != nil {
		return err
	}
	if req.Class != batcher.Bulk || req.Tenant != "acme" || !req.AsOf.Equal(time.Unix(7, 0)) {
		return fault.New(fault.Internal, "not the class, the tenant or the time: %+v", req)
	}
	return c.Encode(ctx, m.v, &serve.Response{Outputs: req.Inputs[:1], Use: serve.Use{Rows: 2, InputBytes: 8}})
}

func version(in ...model.Port) *serve.Version {
	return &serve.Version{Name: "m", Text: "3", Batches: true, MaxRows: 32, Signature: model.Signature{Inputs: in, Outputs: in[:1]}}
}

func TestModel(t *testing.T) {
	x := model.Port{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 2, 3}}
	m, err := NewPredictor(models{v: version(x)}).Model("m", "")
	if err != nil || m.Version != "3" || m.Best != 32 || m.Inputs[0].Type != "FP32" || !slices.Equal(m.Outputs[0].Shape, []int64{2, 3}) {
		t.Errorf("%+v, %v", m, err)
	}
	stateful := version(x)
	stateful.Config.Sequence = new(model.Sequence)
	asking := version(x)
	asking.Config.Features = &model.Features{Inputs: []model.FeatureInput{{Input: "x", Entity: model.Entity{Header: "X-User"}}}}
	single := version(x)
	single.Batches = false
	half := version(x)
	half.Signature.Outputs = []model.Port{{Name: "y", Datatype: tensor.FP16, Shape: tensor.Shape{-1, 2}}}
	for name, v := range map[string]*serve.Version{
		"a half": version(model.Port{Name: "x", Datatype: tensor.FP16, Shape: tensor.Shape{-1, 2}}), "varying": version(model.Port{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, -1}}),
		"stateful": stateful, "an output of halves": half, "single": single, "of a header": asking,
	} {
		if _, err := NewPredictor(models{v: v}).Model("m", ""); fault.CodeOf(err) != "model_not_batchable" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is measured chooses the size of runs only where answers do not depend on it.
func TestPace(t *testing.T) {
	for same, best := range map[bool]int{true: 8, false: 32} {
		m := run.Model{Best: 32, Same: same}
		if keepPace(&m, batcher.Pace{Rows: 8, Parallel: 2, Run: 800, Spread: 1}); m.Best != best || m.Pace != (run.Pace{Row: 100, Parallel: 2, Spread: 1}) {
			t.Errorf("same %t: %+v", same, m)
		}
		if keepPace(&m, batcher.Pace{Rows: 1}); m.Best != best {
			t.Error("an unknown pace changes the size")
		}
	}
}

func TestPredict(t *testing.T) {
	p := NewPredictor(models{v: version(model.Port{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 1}})})
	in := []run.Tensor{{Name: "x", Type: "FP32", Shape: []int64{2, 1}, Data: []byte("12345678")}}
	a, err := p.Predict(t.Context(), run.Ask{Tenant: "acme", Model: "m", Version: "3", AsOf: time.Unix(7, 0), Inputs: in})
	if err != nil || len(a.Outputs) != 1 || string(a.Outputs[0].Data) != "12345678" || a.Used.Rows != 2 || a.Used.InputBytes != 8 {
		t.Errorf("%+v, %v", a, err)
	}
	in[0].Data[0] = 'x' // the answer is a copy
	if string(a.Outputs[0].Data) != "12345678" {
		t.Error("the answer is a view of the model's memory")
	}
}
