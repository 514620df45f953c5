package serve_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is a Codec over values.
type request struct {
	model, version string
	in             serve.Request
	out            []tensor.Tensor
	timing         serve.Timing
	served         string // the version that answered
}

func (r *request) Target() (string, string) { return r.model, r.version }

func (r *request) Decode(_ context.Context, _ *serve.Version, req *serve.Request) error {
	req.Inputs = append(req.Inputs, r.in.Inputs...)
	req.Outputs = append(req.Outputs, r.in.Outputs...)
	req.Timeout = r.in.Timeout
	return nil
}

func (r *request) Encode(_ context.Context, v *serve.Version, resp *serve.Response) error {
	for _, t := range resp.Outputs {
		t.Shape, t.Data = slices.Clone(t.Shape), slices.Clone(t.Data)
		r.out = append(r.out, t)
	}
	r.timing, r.served = resp.Timing, v.Text
	return nil
}

// fixture is a repository on disk with a server over it.
type fixture struct {
	t   testing.TB
	dir string
	*serve.Server
}

func runtimeEngine(t testing.TB) engine.Engine {
	t.Helper()
	path, err := ortlib.Locate(context.Background(), ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := ortengine.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newFixture(t testing.TB, cfg serve.Config, files map[string][]byte) *fixture {
	t.Helper()
	if cfg.Defaults.SLO == 0 {
		cfg.Defaults.SLO = 30 * time.Second // tests are about answers, not about this machine's speed
	}
	f := &fixture{t: t, dir: t.TempDir()}
	for path, data := range files {
		f.write(path, data)
	}
	repo, err := modelrepo.Open(f.dir, modelrepo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	f.Server = serve.New(runtimeEngine(t), repo, cfg)
	if err := f.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) write(path string, data []byte) {
	f.t.Helper()
	path = filepath.Join(f.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path+".part", data, 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		f.t.Fatal(err)
	}
}

// ask sends rows of four floats counting up from first.
func (f *fixture) ask(model, version, input string, rows int, first float32) (*request, error) {
	r := &request{model: model, version: version, in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats(input, rows, first)}}}
	return r, f.Predict(context.Background(), r)
}

func indexes(model string, values ...uint64) *request {
	in := tensor.Tensor{Name: "x", Datatype: tensor.Int64, Shape: tensor.Shape{int64(len(values)), 1}}
	for _, v := range values {
		for range 8 {
			in.Data = append(in.Data, byte(v))
			v >>= 8
		}
	}
	return &request{model: model, in: serve.Request{Inputs: []tensor.Tensor{in}}}
}

// Rows of many clients share runs, and each client gets its own back.
func TestRowsReturnToTheirCallers(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"id/1/model.onnx": onnxtest.Identity(tensor.FP32)})
	var shared atomic.Int64
	together := func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 9), 2, 40).Draw(t, "rows")
		var wg sync.WaitGroup
		for i, rows := range sizes {
			wg.Go(func() {
				r, err := f.ask("id", "", "in_fp32", rows, float32(i*1000))
				if err != nil {
					t.Errorf("%d rows: %v", rows, err)
					return
				}
				if !slices.Equal(r.out[0].Data, r.in.Inputs[0].Data) || !r.out[0].Shape.Equal(r.in.Inputs[0].Shape) {
					t.Errorf("client %d sent %v and got %v", i, enginetest.Values(r.in.Inputs[0].Data), enginetest.Values(r.out[0].Data))
				}
				if r.timing.BatchRows > rows {
					shared.Add(1)
				}
			})
		}
		wg.Wait()
	}
	// Whether clients meet is a matter of how fast the machine is beside its scheduler.
	for deadline := time.Now().Add(20 * time.Second); shared.Load() == 0 && !t.Failed() && time.Now().Before(deadline); {
		rapid.Check(t, together)
	}
	if shared.Load() == 0 {
		t.Error("no two clients ever shared a run: the property was not tested")
	}
}

// When Predict returns, for whatever reason, the request's memory is the
// caller's again: clients that give up at any moment and use their memory for
// the next request at once never spoil an answer.
func TestMemoryIsTheCallersAgain(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"id/1/model.onnx": onnxtest.Identity(tensor.Int64)})
	var answered, cancelled atomic.Int64
	var wg sync.WaitGroup
	for client := range 16 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(client)))
			data := make([]byte, 8*4)
			for i := range 300 {
				for at := range data {
					data[at] = byte(client*16 + i)
				}
				r := &request{model: "id", in: serve.Request{Inputs: []tensor.Tensor{{
					Name: "in_int64", Datatype: tensor.Int64, Shape: tensor.Shape{4, 1}, Data: data,
				}}}}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.IntN(2000))*time.Microsecond)
				err := f.Predict(ctx, r)
				cancel()
				switch {
				case err != nil:
					cancelled.Add(1)
				case !slices.Equal(r.out[0].Data, data):
					t.Errorf("client %d, request %d: sent %v, got %v", client, i, data, r.out[0].Data)
				default:
					answered.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if answered.Load() == 0 || cancelled.Load() == 0 {
		t.Errorf("%d answered and %d cancelled: the property was not tested", answered.Load(), cancelled.Load())
	}
}

// Two inputs whose extents carry one name in the model must agree.
func TestTiedExtentsMustAgree(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"add/1/model.onnx": onnxtest.Model{Graph: onnxtest.Graph{
		Nodes:   []onnxtest.Node{{Op: "Add", In: []string{"a", "b"}, Out: []string{"sum"}}},
		Inputs:  []onnxtest.Value{{Name: "a", Type: tensor.FP32, Shape: "batch,n"}, {Name: "b", Type: tensor.FP32, Shape: "batch,n"}},
		Outputs: []onnxtest.Value{{Name: "sum", Type: tensor.FP32, Shape: "batch,n"}},
	}}.Encode()})
	wide := tensor.Tensor{Name: "b", Datatype: tensor.FP32, Shape: tensor.Shape{1, 5}, Data: make([]byte, 20)}
	r := &request{model: "add", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("a", 1, 0), wide}}}
	if err := f.Predict(context.Background(), r); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "dimension 1 must be as dimension 1 of input 'a'") {
		t.Errorf("got %v", err)
	}
}

// A request that makes the model fail does not fail those that it shared a
// run with.
func TestBadRowDoesNotFailItsNeighbours(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"lookup/1/model.onnx": onnxtest.Lookup()})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if i%10 == 0 {
				if err := f.Predict(context.Background(), indexes("lookup", 99)); !fault.Is(err, fault.Internal) {
					t.Errorf("an index out of range gave %v", err)
				}
				return
			}
			r := indexes("lookup", uint64(i%4))
			if err := f.Predict(context.Background(), r); err != nil {
				t.Errorf("a good request failed: %v", err)
			} else if got := enginetest.Values(r.out[0].Data)[0]; got != float32(10*(i%4)) {
				t.Errorf("index %d gave %v", i%4, got)
			}
		})
	}
	wg.Wait()
}

// A model whose answers depend on the batch is found out, says so, and
// answers each request as if it were alone.
func TestDependentModelIsNeverSharedAcrossRequests(t *testing.T) {
	for name, data := range map[string][]byte{"mean": onnxtest.BatchMean(), "prefix": onnxtest.BatchPrefix()} {
		f := newFixture(t, serve.Config{}, map[string][]byte{name + "/1/model.onnx": data})
		v, err := f.Lookup(name, "")
		if err != nil {
			t.Fatal(err)
		}
		if v.CrossRequest || !strings.Contains(v.Invariance, "answer changes") {
			t.Fatalf("%s: shared across requests: %t, because %q", name, v.CrossRequest, v.Invariance)
		}
		alone, err := f.ask(name, "", "x", 1, 3)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				r, err := f.ask(name, "", "x", 1, 3)
				if err != nil || !slices.Equal(r.out[0].Data, alone.out[0].Data) || r.timing.BatchRows != 1 {
					t.Errorf("%s: alone %v, in company %v (%d rows): %v", name, alone.out, r.out, r.timing.BatchRows, err)
				}
			})
		}
		wg.Wait()
	}
}

func TestIndependentModelIsShared(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 8, 3)})
	if v, err := f.Lookup("mlp", ""); err != nil || !v.CrossRequest {
		t.Errorf("%+v, %v", v, err)
	}
}

// Wrong requests get the texts that clients of the protocol match on.
func TestWrongRequests(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{
		"addsub/1/model.onnx": onnxtest.AddSub(), "addsub/config.yaml": []byte("max_batch_size: 4\n"),
	})
	a, b := enginetest.Floats("a", 1, 0), enginetest.Floats("b", 1, 0)
	for _, c := range []struct {
		why     string
		inputs  []tensor.Tensor
		outputs []string
		want    string
	}{
		{"too few", []tensor.Tensor{a}, nil, "expected 2 inputs but got 1 inputs for model 'addsub'"},
		{"unknown", []tensor.Tensor{a, enginetest.Floats("c", 1, 0)}, nil, "unexpected inference input 'c' for model 'addsub'"},
		{"twice", []tensor.Tensor{a, a}, nil, "input 'b' of model 'addsub' is missing"},
		{"type", []tensor.Tensor{a, {Name: "b", Datatype: tensor.Int32, Shape: tensor.Shape{1, 4}, Data: make([]byte, 16)}}, nil, "inference input 'b' data-type is 'INT32', but model 'addsub' expects 'FP32'"},
		{"rank", []tensor.Tensor{a, {Name: "b", Datatype: tensor.FP32, Shape: tensor.Shape{4}, Data: make([]byte, 16)}}, nil, "unexpected shape for input 'b' for model 'addsub'. Expected [-1,4], got [4]."},
		{"width", []tensor.Tensor{a, {Name: "b", Datatype: tensor.FP32, Shape: tensor.Shape{1, 5}, Data: make([]byte, 20)}}, nil, "unexpected shape for input 'b' for model 'addsub'. Expected [-1,4], got [1,5]."},
		{"bytes", []tensor.Tensor{a, {Name: "b", Datatype: tensor.FP32, Shape: tensor.Shape{1, 4}, Data: make([]byte, 15)}}, nil, "needs 16 bytes, got 15"},
		{"rows differ", []tensor.Tensor{a, enginetest.Floats("b", 2, 0)}, nil, "input 'b' batch size does not match other inputs for 'addsub'"},
		{"too many rows", []tensor.Tensor{enginetest.Floats("a", 5, 0), enginetest.Floats("b", 5, 0)}, nil, "inference request batch-size must be <= 4 for 'addsub'"},
		{"output twice", []tensor.Tensor{a, b}, []string{"sum", "sum"}, "output 'sum' is asked for twice"},
		{"output", []tensor.Tensor{a, b}, []string{"product"}, "unexpected inference output 'product' for model 'addsub'"},
	} {
		r := &request{model: "addsub", in: serve.Request{Inputs: c.inputs, Outputs: c.outputs}}
		if err := f.Predict(context.Background(), r); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.why, err, c.want)
		}
	}
	swapped := &request{model: "addsub", in: serve.Request{Inputs: []tensor.Tensor{b, enginetest.Floats("a", 1, 7)}, Outputs: []string{"difference", "sum"}}}
	if err := f.Predict(context.Background(), swapped); err != nil {
		t.Fatal(err)
	}
	if len(swapped.out) != 2 || swapped.out[1].Name != "sum" || enginetest.Values(swapped.out[0].Data)[0] != 7 {
		t.Errorf("inputs in another order and chosen outputs gave %v", swapped.out)
	}
}

func TestUnknownModelsAndVersions(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"mlp/3/model.onnx": onnxtest.MLP(1, 4, 3)})
	for _, c := range []struct{ model, version, want string }{
		{"nope", "", "Request for unknown model: 'nope' is not found"},
		{"mlp", "4", "Request for unknown model: 'mlp' version 4 is not found"},
	} {
		if _, err := f.ask(c.model, c.version, "x", 1, 0); !fault.Is(err, fault.NotFound) || err.Error() != c.want {
			t.Errorf("%s/%s: %v", c.model, c.version, err)
		}
	}
}

func TestSettingsWithoutEffectAreLogged(t *testing.T) {
	var log strings.Builder
	newFixture(t, serve.Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, map[string][]byte{
		"m/1/model.onnx": onnxtest.MLP(1, 4, 3),
		"m/config.pbtxt": []byte("input { name: \"x\" optional: true }\nresponse_cache { enable: true }\n"),
		"n/1/model.onnx": onnxtest.MLP(1, 4, 3),
		"n/config.yaml":  []byte("labels: {next: 2}"),
	})
	for _, want := range []string{"config.pbtxt:2: response_cache: has no effect", "optional has no effect", "version 2, which is not served"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log does not say %q once:\n%s", want, log.String())
		}
	}
}

// Work of a client that has gone stops.
func TestCancelledRequestStops(t *testing.T) {
	trusted := func(context.Context, engine.Spec, string) (probe.Report, error) {
		return probe.Report{Invariant: true, Reason: "for the test"}, nil
	}
	f := newFixture(t, serve.Config{Trial: trusted}, map[string][]byte{
		"slow/1/model.onnx": onnxtest.Slow(100_000_000), "slow/config.yaml": []byte("slo: 10m\n"),
	})
	in := tensor.Tensor{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{1, 64}, Data: make([]byte, 256)}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := f.Predict(ctx, &request{model: "slow", in: serve.Request{Inputs: []tensor.Tensor{in}}})
	if took := time.Since(began); err == nil || took > 3*time.Second {
		t.Errorf("a cancelled request ended after %s with %v", took, err)
	}
}

// The counters add up: every request is one success or one failure, and the
// metrics show them under the names that dashboards expect.
func TestCountersAddUp(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := newFixture(t, serve.Config{Metrics: registry}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 3)})
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() { _, _ = f.ask("mlp", "", []string{"x", "x", "y"}[i%3], 2, 0) })
	}
	wg.Wait()
	v, err := f.Lookup("mlp", "")
	if err != nil {
		t.Fatal(err)
	}
	s := v.Stats
	if s.Success.Count.Load() != 20 || s.Fail.Count.Load() != 10 || s.Queue.Count.Load() != 20 || s.Inferences.Load() != 40 || s.Pending.Load() != 0 {
		t.Errorf("20 answered and 10 refused are counted as %d and %d (%d queued, %d rows, %d pending)",
			s.Success.Count.Load(), s.Fail.Count.Load(), s.Queue.Count.Load(), s.Inferences.Load(), s.Pending.Load())
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			seen[family.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"nv_inference_request_success": 20, "nv_inference_request_failure": 10, "nv_inference_count": 40,
		"sluice_inference_request_seconds": 20, "sluice_inference_refusals_total": 10, "sluice_model_ready": 1,
	} {
		if seen[name] != want {
			t.Errorf("%s is %v, want %v", name, seen[name], want)
		}
	}
}

func BenchmarkPredict(b *testing.B) {
	f := newFixture(b, serve.Config{}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 16, 3)})
	for _, clients := range []int{1, 64} {
		b.Run("clients="+strconv.Itoa(clients), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(max(clients/2, 1))
			b.RunParallel(func(pb *testing.PB) {
				r := &request{model: "mlp", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 1, 0)}}}
				for pb.Next() {
					r.out = r.out[:0]
					if err := f.Predict(context.Background(), r); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
