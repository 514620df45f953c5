package serve_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// offerGraph makes an offer of a graph that takes x and gives the outputs, all FP32 rows of
// a width, -1 for any.
func offerGraph(number, width int64, text string, outputs ...string) serve.Offer {
	port := func(name string) model.Port {
		return model.Port{Name: name, Datatype: tensor.FP32, Shape: tensor.Shape{-1, width}}
	}
	sum := sha256.Sum256([]byte(text))
	o := serve.Offer{Number: number, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(text)), Graph: []byte(text), Signature: model.Signature{Inputs: []model.Port{port("x")}}}
	for _, name := range outputs {
		o.Signature.Outputs = append(o.Signature.Outputs, port(name))
	}
	return o
}

// running has the fixture's server follow changes until the test ends.
func (f *fixture) running() {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	f.t.Cleanup(func() { stop(); running.Wait() })
}

func (f *fixture) reason(name string, want ...string) bool {
	return slices.ContainsFunc(f.Index(), func(e serve.IndexEntry) bool {
		return e.Name == name && !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(e.Reason, w) })
	})
}

// A graph that is offered serves beside models of the repository and other offers, whichever
// is there first; it is unloaded, loaded and withdrawn as they are.
func TestOfferedGraphs(t *testing.T) {
	const nested = "inputs: [x]\noutputs: [y]\nnodes: [{name: inner, model: g}]\n"
	f := newFixture(t, serve.Config{LoadWait: time.Minute}, map[string][]byte{"id/1/model.onnx": identity()})
	f.running()
	f.Offer(t.Context(), "outer", []serve.Offer{offerGraph(1, -1, nested, "y")}) // its model comes later
	if _, err := f.ask("outer", "", "x", 1, 1); !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != "model_not_ready" || !strings.Contains(err.Error(), "'g' is not found") {
		t.Errorf("without its model: %v", err)
	}
	if !f.reason("outer", "node 'inner'", "'g' is not found") || !f.Ready() {
		t.Errorf("%+v", f.Index())
	}
	if refused := f.Offer(t.Context(), "g", []serve.Offer{offerGraph(7, -1, pipeline, "y")}); len(refused) > 0 {
		t.Fatal(refused)
	}
	if r, err := f.ask("g", "7", "x", 3, 5); err != nil || !slices.Equal(r.out[0].Data, r.in.Inputs[0].Data) {
		t.Fatal(err)
	}
	f.until(func() bool { _, err := f.ask("outer", "", "x", 1, 1); return err == nil }, "the graph serves once its model is offered")
	before, err := f.Lookup("g", "")
	if err != nil || before.Number != 7 || before.Config.Platform != model.PlatformGraph {
		t.Fatalf("%+v %v", before, err)
	}
	f.Offer(t.Context(), "g", []serve.Offer{offerGraph(7, -1, pipeline, "y"), offerGraph(8, -1, pipeline+"# another", "y")})
	if same, err := f.Lookup("g", "7"); err != nil || same != before {
		t.Errorf("what stays offered was replaced: %v", err)
	}
	if err := f.Unload(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("outer", "", "x", 1, 1); !fault.Is(err, fault.Unavailable) {
		t.Errorf("its model was unloaded: %v", err)
	}
	if err := f.Load(t.Context(), "g", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { _, err := f.ask("outer", "", "x", 1, 1); return err == nil }, "it is loaded again")
	f.Offer(t.Context(), "g", nil)
	f.until(func() bool {
		_, err := f.ask("outer", "", "x", 1, 1)
		return fault.CodeOf(err) == "graph_model_missing"
	}, "its model is offered no more")
	f.Offer(t.Context(), "outer", nil)
	if _, err := f.ask("outer", "", "x", 1, 1); !fault.Is(err, fault.NotFound) {
		t.Errorf("withdrawn: %v", err)
	}
}

// A version keeps its promise: where its models make other tensors of it, it answers that
// rather than something else, and answers again once they are as they were.
func TestOfferedGraphKeepsItsSignature(t *testing.T) {
	const whole = "inputs: [x]\noutputs: [y]\nnodes: [{name: only, model: m}]\n"
	f := newFixture(t, serve.Config{Poll: time.Millisecond}, map[string][]byte{"m/1/model.onnx": twins("")})
	f.running()
	f.Offer(t.Context(), "g", []serve.Offer{offerGraph(1, 4, whole, "y")})
	f.Offer(t.Context(), "wrong", []serve.Offer{offerGraph(1, 4, whole, "y", "z")})
	if _, err := f.ask("g", "", "x", 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("wrong", "", "x", 1, 1); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "not what it was registered with") {
		t.Errorf("of another signature: %v", err)
	}
	f.write("m/1/model.onnx", identity()) // takes in_fp32 and gives out_fp32
	f.until(func() bool { return f.reason("g", "no model takes it as it is") }, "the index tells what has changed")
	if _, err := f.ask("g", "", "x", 1, 1); fault.CodeOf(err) != "graph_model_changed" || !fault.Is(err, fault.Unavailable) {
		t.Errorf("of a model that has changed: %v", err)
	}
	f.write("m/1/model.onnx", twins("z")) // gives more
	f.until(func() bool {
		_, err := f.ask("g", "", "x", 1, 1)
		return err == nil && f.reason("g") && !f.reason("g", "registered")
	}, "it serves with more than it needs")
}

// The trial of a graph runs it with its models, and tells its own faults from theirs.
func TestTryGraph(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"id/1/model.onnx": identity()})
	in := enginetest.Floats("x", 2, 1)
	answer := in
	answer.Name = "y"
	golden := &probe.Golden{Inputs: []tensor.Tensor{in}, Outputs: []tensor.Tensor{answer}}
	try := func(text string, g *probe.Golden) (probe.Report, error) {
		return f.TryGraph(t.Context(), "g", 1, []byte(text), model.Config{Name: "g"}, g)
	}
	for _, g := range []*probe.Golden{nil, golden} {
		if r, err := try(pipeline, g); err != nil || !r.Invariant {
			t.Errorf("%+v %v", r, err)
		}
	}
	if _, err := f.Lookup("g", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("what is tried is served: %v", err)
	}
	other := *golden
	other.Outputs = []tensor.Tensor{enginetest.Floats("y", 2, 9)}
	if _, err := try(pipeline, &other); !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != probe.CodeGolden {
		t.Errorf("another answer: %v", err)
	}
	if _, err := try(strings.ReplaceAll(pipeline, "model: id", "model: nobody"), golden); !fault.Is(err, fault.NotFound) {
		t.Errorf("without its model: %v", err)
	}
	if _, err := try("nodes: {}", nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("no graph: %v", err)
	}
}
