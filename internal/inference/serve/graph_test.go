package serve_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/route"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

const pipeline = `
inputs: [x]
outputs: [y]
nodes:
  - {name: first, model: id, inputs: {in_fp32: x}, outputs: {out_fp32: once}}
  - {name: second, model: id, inputs: {in_fp32: once}, outputs: {out_fp32: y}}
`

func identity() []byte { return onnxtest.Identity(tensor.FP32) }

// A graph is a model like any other: found, described, batched, counted once.
func TestGraphServes(t *testing.T) {
	metrics := prometheus.NewRegistry()
	used := map[string]int{}
	cfg := serve.Config{Metrics: metrics, Used: func(_ context.Context, v *serve.Version, _ time.Time, u serve.Use) {
		if used[v.Name]++; u.Compute <= 0 {
			t.Errorf("%s used %+v", v.Name, u)
		}
	}}
	// "a" is read before the models that it uses, by name.
	f := newFixture(t, cfg, map[string][]byte{"id/1/model.onnx": identity(), "g/1/graph.yaml": []byte(pipeline), "g/config.yaml": []byte("max_batch_size: 8\n"),
		"a/1/graph.yaml": []byte("inputs: [x]\noutputs: [y]\nnodes: [{name: nested, model: g}]\n")})
	if why := f.Unready(); why != "" {
		t.Fatal(why)
	}
	r, err := f.ask("g", "1", "x", 3, 7)
	if err != nil || !slices.Equal(r.out[0].Data, r.in.Inputs[0].Data) || r.out[0].Name != "y" || !r.out[0].Shape.Equal(tensor.Shape{3, 4}) {
		t.Fatalf("%+v, %v", r.out, err)
	}
	if v, err := f.Lookup("g", ""); err != nil || v.MaxRows != 8 || !v.Batches || v.Config.Platform != model.PlatformGraph || v.Stats.Inferences.Load() != 3 {
		t.Errorf("%+v, %v", v, err)
	}
	if counted(t, metrics, "sluice_graph_node_seconds") != 2 {
		t.Error("the nodes are not measured")
	}
	if _, err := f.ask("a", "", "x", 2, 1); err != nil {
		t.Errorf("a graph of a graph: %v", err)
	}
	if len(used) != 2 || used["g"] != 1 || used["a"] != 1 {
		t.Errorf("two requests were counted as %v", used)
	}
	if _, err := f.ask("g", "", "x", 9, 1); !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != "batch_too_large" {
		t.Errorf("nine rows: %v", err)
	}
	if _, err := f.ask("g", "", "z", 1, 1); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "unexpected inference input 'z' for model 'g': it takes 'x'") {
		t.Errorf("another input: %v", err)
	}
}

// counted returns how many observations all histograms of a name have.
func counted(t *testing.T, metrics *prometheus.Registry, name string) (n uint64) {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		return 0
	}
	for _, m := range families[i].GetMetric() {
		n += m.GetHistogram().GetSampleCount()
	}
	return n
}

// Rows of many requests to a graph share the runs of its models, and return to their
// callers.
func TestGraphRowsReturnToTheirCallers(t *testing.T) {
	f := newFixture(t, serve.Config{Defaults: model.Defaults{SLO: time.Hour}}, map[string][]byte{"id/1/model.onnx": identity(), "g/1/graph.yaml": []byte(pipeline)})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			r, err := f.ask("g", "", "x", i%5, float32(100*i))
			if err != nil || !slices.Equal(r.out[0].Data, r.in.Inputs[0].Data) {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// A model that vanishes leaves a graph that says so; when it is back the graph
// serves; a graph that changes is swapped.
func TestGraphFollowsItsModels(t *testing.T) {
	f := newFixture(t, serve.Config{Poll: time.Millisecond}, map[string][]byte{"id/1/model.onnx": identity(), "g/1/graph.yaml": []byte(pipeline)})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer stop()
	if err := os.Rename(filepath.Join(f.dir, "id"), filepath.Join(f.dir, "_id")); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool {
		_, err := f.ask("g", "", "x", 1, 1)
		return fault.CodeOf(err) == "graph_model_missing" && fault.Is(err, fault.Unavailable)
	}, "the missing model is told")
	f.until(func() bool {
		return slices.ContainsFunc(f.Index(), func(e serve.IndexEntry) bool {
			return e.Name == "g" && strings.Contains(e.Reason, "node 'first'")
		})
	}, "the index tells the reason")
	f.write("h/1/graph.yaml", []byte(strings.ReplaceAll(pipeline, "outputs: [y]", "outputs: [once]"))) // there is nothing yet that it could use
	f.until(func() bool {
		return slices.ContainsFunc(f.Index(), func(e serve.IndexEntry) bool { return e.Name == "h" && e.State == serve.Unavailable })
	}, "the new graph is refused")
	if err := os.Rename(filepath.Join(f.dir, "_id"), filepath.Join(f.dir, "id")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"g", "h"} {
		f.until(func() bool { _, err := f.ask(name, "", "x", 1, 1); return err == nil }, name+" serves with its model back")
	}
	f.write("g/1/graph.yaml", []byte(strings.ReplaceAll(pipeline, "y", "renamed")))
	f.until(func() bool {
		v, err := f.Lookup("g", "")
		return err == nil && v.Signature.Outputs[0].Name == "renamed"
	}, "the new file serves")
	f.write("g/1/graph.yaml", []byte(strings.ReplaceAll(pipeline, "model: id", "model: g")))
	f.until(func() bool {
		return slices.ContainsFunc(f.Index(), func(e serve.IndexEntry) bool {
			return e.Name == "g" && e.State == serve.Ready && strings.Contains(e.Reason, "uses itself")
		})
	}, "a graph that is broken is not taken into service")
	if _, err := f.ask("g", "", "x", 1, 1); err != nil {
		t.Errorf("the graph before it serves no more: %v", err)
	}
}

func (f *fixture) until(done func() bool, what string) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("not within 20 s: %s; %+v", what, f.Index())
		}
	}
}

// twins gives x as y, and as the other output, if that has a name.
func twins(other string) []byte {
	g := onnxtest.Graph{Inputs: []onnxtest.Value{{Name: "x", Type: tensor.FP32, Shape: "batch,4"}}}
	for _, name := range []string{"y", other} {
		if name != "" {
			g.Nodes = append(g.Nodes, onnxtest.Node{Op: "Identity", Name: name, In: []string{"x"}, Out: []string{name}})
			g.Outputs = append(g.Outputs, onnxtest.Value{Name: name, Type: tensor.FP32, Shape: "batch,4"})
		}
	}
	return onnxtest.Model{Graph: g}.Encode()
}

// A graph goes on where its model gives less than before, of which it wants nothing;
// and the graphs behind it are not kept waiting by who still asks what it was.
func TestGraphOfAModelThatGivesLess(t *testing.T) {
	const whole = "inputs: [x]\noutputs: [y]\nnodes: [{name: only, model: m}]\n"
	f := newFixture(t, serve.Config{Poll: time.Millisecond}, map[string][]byte{"m/1/model.onnx": twins("z"), "g/1/graph.yaml": []byte(whole)})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer stop()
	slow := &held{request: request{model: "g", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 1, 0)}}}, reached: make(chan struct{}), release: make(chan struct{})}
	running.Go(func() {
		if err := f.Predict(context.Background(), slow); err != nil {
			t.Error(err)
		}
	})
	defer close(slow.release)
	<-slow.reached // the graph of now cannot be freed
	for _, other := range []string{"", "q", ""} {
		f.write("m/1/model.onnx", twins(other))
		f.until(func() bool {
			v, err := f.Lookup("m", "")
			return err == nil && (v.Signature.Output("q") >= 0) == (other == "q") && v.Signature.Output("z") < 0
		}, "the new model serves")
		f.until(func() bool { _, err := f.ask("g", "", "x", 1, 1); return err == nil }, "the graph serves with what it gives now")
	}
}

// held is a request whose client takes its time.
type held struct {
	request
	reached, release chan struct{}
}

func (h *held) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	close(h.reached)
	<-h.release
	return h.request.Encode(ctx, v, resp)
}

// arms notes which versions answered.
type arms struct {
	mu   sync.Mutex
	seen map[string]int
}

type arm struct {
	*arms
	name string
}

func (a arm) count(r experiment.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[a.name]++
	if r == experiment.ByRequest {
		a.seen["units"]++
	}
}

func (a arm) Answered(r experiment.Reason, _ time.Duration) { a.count(r) }
func (a arm) Spared(r experiment.Reason)                    { a.count(r) }
func (a arm) Failed(r experiment.Reason)                    { a.count(r) }

// All nodes of a request that has no id have the same arm, and none is a unit.
func TestNodesShareTheirRequestsArm(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"m/1/model.onnx": twins(""), "m/2/model.onnx": twins("z"), "m/config.yaml": []byte("version_policy: {all: true}\n"),
		"g/1/graph.yaml": []byte("inputs: [x]\noutputs: [w]\nnodes: [{name: a, model: m, outputs: {y: v}}, {name: b, model: m, inputs: {x: v}, outputs: {y: w}}]\n")})
	allocation, err := experiment.Allocate(experiment.Arm{Name: "a", Weight: 5000}, experiment.Arm{Name: "b", Weight: 5000})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := experiment.Compile(experiment.Config{Salt: "s", Allocation: allocation})
	if err != nil {
		t.Fatal(err)
	}
	seen := &arms{seen: map[string]int{}}
	split := &route.Split{ID: "exp", Plan: plan}
	for i, name := range []string{"a", "b"} {
		v, err := f.Lookup("m", strconv.Itoa(i+1))
		if err != nil {
			t.Fatal(err)
		}
		split.Arms = append(split.Arms, route.Arm{Name: name, Digest: v.SHA256, Meter: arm{seen, name}})
	}
	f.Name(map[string]route.Names{"m": {"": {Version: 1, Split: split}}})
	for range 50 {
		was := seen.seen["a"]
		if _, err := f.ask("g", "", "x", 1, 1); err != nil {
			t.Fatal(err)
		}
		if got := seen.seen["a"] - was; got != 0 && got != 2 {
			t.Fatalf("arm a has %d of a request's two nodes", got)
		}
	}
	if seen.seen["a"]+seen.seen["b"] != 100 || seen.seen["a"]%100 == 0 || seen.seen["units"] != 0 {
		t.Errorf("%v", seen.seen)
	}
}

// Whether rows of a graph may share runs is what was measured of its models, also
// while they are not loaded: nothing is assumed, nothing forgotten.
func TestGraphOfColdModels(t *testing.T) {
	f := newFixture(t, serve.Config{LoadWait: time.Minute, Memory: 1 << 40}, map[string][]byte{"g/1/graph.yaml": []byte("inputs: [x]\noutputs: [y]\nnodes: [{name: a, model: m}]\n")})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer stop()
	f.Offer(t.Context(), "m", []serve.Offer{new(shelf).offer(t, 1, onnxtest.BatchMean())})
	shares := func() bool {
		v, err := f.Lookup("g", "")
		return err == nil && v.CrossRequest
	}
	f.until(func() bool { _, err := f.Lookup("g", ""); return err == nil }, "the graph serves")
	if shares() {
		t.Error("it is assumed that rows do not depend on each other")
	}
	if _, err := f.ask("g", "", "x", 2, 1); err != nil || shares() {
		t.Errorf("%v; rows that depend on each other are said not to", err)
	}
	f.Offer(t.Context(), "m", []serve.Offer{new(shelf).offer(t, 1, onnxtest.MLP(1, 4, 4))})
	if _, err := f.ask("m", "", "x", 2, 1); err != nil {
		t.Fatal(err)
	}
	f.until(shares, "the graph knows what was measured")
}

// What of a graph's requests is logged, its configuration says as any model's.
func TestGraphHasItsOwnLogPolicy(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"id/1/model.onnx": identity(), "g/1/graph.yaml": []byte(pipeline),
		"g/config.yaml": []byte(`parameters: {sluice.log: '{"sample":1,"tenants":["*"],"outputs":["y"]}'}`)})
	if _, err := f.ask("g", "", "x", 1, 1); err != nil {
		t.Fatal(err)
	}
	f.write("g/config.yaml", []byte(`parameters: {sluice.log: '{"sample":1,"tenants":["*"],"outputs":["once"]}'}`))
	if err := f.Load(context.Background(), "g", serve.LoadOptions{}); err == nil {
		t.Error("a policy for what is no output is not refused")
	}
}

// Unloading a graph is for good, whatever becomes of its models.
func TestUnloadedGraphStaysUnloaded(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"id/1/model.onnx": identity(), "g/1/graph.yaml": []byte(pipeline)})
	if err := f.Unload(context.Background(), "g"); err != nil {
		t.Fatal(err)
	}
	if err := f.Load(context.Background(), "id", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("g", "", "x", 1, 1); err == nil {
		t.Error("it serves")
	}
	if err := f.Load(context.Background(), "g", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("g", "", "x", 1, 1); err != nil {
		t.Error(err)
	}
}

// A graph of one node beside the node itself: what a graph costs.
func BenchmarkGraph(b *testing.B) {
	f := newFixture(b, serve.Config{}, map[string][]byte{
		"id/1/model.onnx": identity(),
		"g/1/graph.yaml":  []byte("inputs: [in_fp32]\noutputs: [out_fp32]\nnodes: [{name: only, model: id}]\n"),
	})
	for _, name := range []string{"id", "g"} {
		b.Run(map[string]string{"id": "model", "g": "graph"}[name], func(b *testing.B) {
			b.ReportAllocs()
			r := &request{model: name, in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("in_fp32", 1, 0)}}}
			for b.Loop() {
				r.out = r.out[:0]
				if err := f.Predict(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
