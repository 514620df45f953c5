package evaluations

import (
	"context"
	"testing"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// echo serves one version, which gives back what it is asked.
type echo struct {
	serve.Models
	v *serve.Version
}

func (m echo) Lookup(string, string) (*serve.Version, error) { return m.v, nil }

func (m echo) Predict(ctx context.Context, c serve.Codec) error {
	var req serve.Request
	if err := c.Decode(ctx, m.v, &req); err != nil {
		return err
	}
	if req.Class != batcher.Bulk || req.Tenant != "acme" || !req.Unlogged {
		return fault.New(fault.Internal, "not the class or the tenant, or it is logged: %+v", req)
	}
	return c.Encode(ctx, m.v, &serve.Response{Outputs: req.Inputs, Use: serve.Use{Rows: 2, InputBytes: 8}})
}

func TestModels(t *testing.T) {
	m := models{echo{v: &serve.Version{Name: "m", Text: "3", SHA256: "ab"}}}
	v, err := m.Find("m", "champion")
	if err != nil || v.Version != (evaluation.Version{Number: "3", Digest: "ab"}) || v.Steps {
		t.Fatalf("%+v, %v", v, err)
	}
	q := evaluation.Question{Tenant: "acme", Model: "m", Version: v.Version, Inputs: []tensor.Tensor{{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{2, 1}, Data: []byte("12345678")}}}
	a, err := m.Ask(t.Context(), q)
	if err != nil || len(a.Outputs) != 1 || a.Used.Rows != 2 || a.Used.InputBytes != 8 {
		t.Fatalf("%+v, %v", a, err)
	}
	q.Inputs[0].Data[0] = 'x' // the answer is a copy
	if string(a.Outputs[0].Data) != "12345678" {
		t.Error("the answer is a view of the model's memory")
	}
	q.Version.Digest = "cd"
	if _, err := m.Ask(t.Context(), q); fault.CodeOf(err) != "evaluation_version_changed" {
		t.Error(err)
	}
}
