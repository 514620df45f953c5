package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"

	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/oip"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/budget"
)

// reference has the models in this process, and asks them one thing at a time: no
// row has neighbours.
type reference struct {
	models *serve.Server
	memory *budget.Budget
}

func openReference(ctx context.Context, dir string) (*reference, error) {
	library, err := ortlib.Locate(ctx, ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
	if err != nil {
		return nil, err
	}
	engine, err := ortengine.Open(library)
	if err != nil {
		return nil, err
	}
	repo, err := modelrepo.Open(dir, modelrepo.Limits{})
	if err != nil {
		return nil, err
	}
	s := serve.New(engine, repo, serve.Config{})
	return &reference{s, budget.New(1<<30, "")}, s.Start(ctx)
}

func (r *reference) close(ctx context.Context) error { return r.models.Close(ctx) }

// answer returns what a version of a model answers to an input.
func (r *reference) answer(ctx context.Context, model, version string, input []byte) ([]byte, error) {
	a, err := oip.Answer(ctx, r.models, r.memory, oip.Question{Model: model, Version: version, Body: input})
	return a.Body, err
}

// outputs is an answer of the Open Inference Protocol.
type outputs struct {
	Outputs []struct {
		Name, Datatype string
		Shape          []int64
		Data           []json.RawMessage
	}
}

// tolerance is by how much numbers may differ, relative to the larger: kernels add
// up in an order that depends on the size of the batch.
const tolerance = 1e-5

// differ says how two answers differ; empty where they do not.
func differ(got, want []byte) string {
	var a, b outputs
	for text, o := range map[*[]byte]*outputs{&got: &a, &want: &b} {
		if err := json.Unmarshal(*text, o); err != nil {
			return err.Error()
		}
	}
	if len(a.Outputs) != len(b.Outputs) || len(a.Outputs) == 0 {
		return fmt.Sprintf("%d outputs, expected %d", len(a.Outputs), len(b.Outputs))
	}
	for i, x := range a.Outputs {
		y := b.Outputs[i]
		if x.Name != y.Name || x.Datatype != y.Datatype || fmt.Sprint(x.Shape) != fmt.Sprint(y.Shape) || len(x.Data) != len(y.Data) {
			return fmt.Sprintf("%s %s %v with %d values, expected %s %s %v with %d", x.Name, x.Datatype, x.Shape, len(x.Data), y.Name, y.Datatype, y.Shape, len(y.Data))
		}
		for j := range x.Data {
			if !alike(x.Data[j], y.Data[j]) {
				return fmt.Sprintf("the value %d of %s is %s, expected %s", j, x.Name, x.Data[j], y.Data[j])
			}
		}
	}
	return ""
}

func alike(a, b json.RawMessage) bool {
	var x, y float64
	if string(a) == string(b) {
		return true
	}
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return math.Abs(x-y) <= tolerance*max(math.Abs(x), math.Abs(y), 1)
}
