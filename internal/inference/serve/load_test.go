package serve_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/route"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// A corrupt or hostile file keeps the server from being ready, and keeps no
// other model from serving.
func TestHostileModelsAreRefusedAndOthersServe(t *testing.T) {
	files := map[string][]byte{"good/1/model.onnx": onnxtest.MLP(1, 4, 3)}
	for name, data := range onnxtest.Hostile() {
		files["bad_"+strings.ReplaceAll(name, " ", "_")+"/1/model.onnx"] = data
	}
	f := newFixture(t, serve.Config{}, files)
	if f.Ready() || f.Unready() == "" {
		t.Error("ready, although models are refused")
	}
	if _, err := f.ask("good", "", "x", 1, 0); err != nil {
		t.Error(err)
	}
	refused := 0
	for _, e := range f.Index() {
		switch {
		case e.Name == "good" && e.State == serve.Ready:
		case e.Name != "good" && e.State == serve.Unavailable && e.Reason != "":
			refused++
		default:
			t.Errorf("%+v", e)
		}
	}
	if refused != len(onnxtest.Hostile()) {
		t.Errorf("%d of %d hostile files are named in the index", refused, len(onnxtest.Hostile()))
	}
}

// Reloading under load fails no request.
func TestSwapUnderLoadFailsNoRequest(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 8, 3)})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := f.ask("mlp", "", "x", 1, 1); err != nil {
						t.Error(err)
						return
					}
					answered.Add(1)
				}
			}
		})
	}
	for i := range 20 {
		f.write("mlp/1/model.onnx", onnxtest.MLP(uint64(i), 4, 8, 3))
		if err := f.Load(context.Background(), "mlp", serve.LoadOptions{}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if answered.Load() == 0 {
		t.Error("nothing was answered during the swaps")
	}
}

// A reload that fails leaves the version in service.
func TestFailedReloadKeepsServing(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 3)})
	f.write("mlp/1/model.onnx", []byte("not a model"))
	if err := f.Load(context.Background(), "mlp", serve.LoadOptions{}); err == nil {
		t.Error("a corrupt file was loaded")
	}
	if _, err := f.ask("mlp", "", "x", 1, 0); err != nil {
		t.Errorf("the version in service was lost: %v", err)
	}
	f.write("mlp/config.yaml", []byte("max_batch_sice: 3\n"))
	if err := f.Load(context.Background(), "mlp", serve.LoadOptions{}); err == nil || !strings.Contains(err.Error(), "max_batch_size") {
		t.Errorf("a misspelt key gave %v", err)
	}
	if _, err := f.ask("mlp", "", "x", 1, 0); err != nil {
		t.Errorf("the version in service was lost: %v", err)
	}
}

// A version that cannot be loaded takes no other out of service, whatever the
// version policy says.
func TestBrokenVersionTakesNoOtherOut(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"m/2/model.onnx": onnxtest.MLP(1, 4, 3)})
	f.write("m/3/model.onnx", []byte("not a model"))
	if err := f.Load(context.Background(), "m", serve.LoadOptions{}); err == nil {
		t.Error("a broken version was loaded")
	}
	if r, err := f.ask("m", "", "x", 1, 0); err != nil || r.served != "2" {
		t.Errorf("the version in service was lost: %v", err)
	}
	if !f.Ready() {
		t.Errorf("not ready, although the model answers: %s", f.Unready())
	}
	err := f.Load(context.Background(), "m", serve.LoadOptions{ConfigJSON: `{"max_batch_size":8}`, Files: map[string][]byte{"7/model.onnx": []byte("garbage")}})
	if err == nil {
		t.Error("garbage was loaded")
	}
	if r, err := f.ask("m", "2", "x", 1, 0); err != nil || r.served != "2" {
		t.Errorf("the version in service was lost: %v", err)
	}
	f.write("m/3/model.onnx", onnxtest.MLP(2, 4, 3))
	if err := f.Load(context.Background(), "m", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("m", "2", "x", 1, 0); err == nil {
		t.Error("the version that was replaced still serves")
	}
}

// A configuration that cannot be read changes nothing in service, labels
// included.
func TestBrokenConfigKeepsLabels(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{
		"m/1/model.onnx": onnxtest.MLP(1, 4, 3), "m/config.yaml": []byte("labels: {stable: 1}\n"),
	})
	f.write("m/config.yaml", []byte("labels: {stable: [\n"))
	if err := f.Load(context.Background(), "m", serve.LoadOptions{}); err == nil {
		t.Error("a broken configuration was taken")
	}
	if r, err := f.ask("m", "stable", "x", 1, 0); err != nil || r.served != "1" {
		t.Errorf("the label was lost: %v", err)
	}
}

// A client that hangs up during a load leaves the model loaded, not broken.
func TestLoadFinishesWithoutItsClient(t *testing.T) {
	started, proceed := make(chan struct{}, 8), make(chan struct{})
	trial := func(context.Context, engine.Spec, string) (probe.Report, error) {
		started <- struct{}{}
		<-proceed
		return probe.Report{Invariant: true, Reason: "for the test"}, nil
	}
	f := newFixture(t, serve.Config{Trial: trial}, nil)
	f.write("m/1/model.onnx", onnxtest.MLP(1, 4, 3))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Load(ctx, "m", serve.LoadOptions{}) }()
	<-started
	cancel()
	close(proceed)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := f.ask("m", "", "x", 1, 0); err != nil || !f.Ready() {
		t.Errorf("after a load whose client went: %v, ready %t", err, f.Ready())
	}
}

// Uploads leave nothing behind: not the row of a refused one, nor the bytes of
// one that was unloaded.
func TestUploadsLeaveNothingBehind(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"m/1/model.onnx": onnxtest.MLP(1, 4, 3)})
	ctx := context.Background()
	for i := range 20 {
		name := "upload" + strconv.Itoa(i)
		if err := f.Load(ctx, name, serve.LoadOptions{ConfigJSON: `{}`, Files: map[string][]byte{"1/model.onnx": make([]byte, 1<<20)}}); err == nil {
			t.Error("zeros were loaded")
		}
		good := serve.LoadOptions{ConfigJSON: `{}`, Files: map[string][]byte{"1/model.onnx": onnxtest.MLP(1, 4, 3)}}
		if err := f.Load(ctx, name, good); err != nil {
			t.Fatal(err)
		}
		if err := f.Unload(ctx, name); err != nil {
			t.Error(err)
		}
	}
	if rows := f.Index(); len(rows) != 1 {
		t.Errorf("the index has %d rows: %+v", len(rows), rows)
	}
}

// Loads and unloads of one model from many sides end in one consistent state.
func TestConcurrentLoadsAndUnloads(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"m/1/model.onnx": onnxtest.MLP(1, 4, 3)})
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			name := []string{"m", "up"}[i%2]
			opts := serve.LoadOptions{}
			if name == "up" {
				opts = serve.LoadOptions{ConfigJSON: `{}`, Files: map[string][]byte{"1/model.onnx": onnxtest.MLP(uint64(i), 4, 3)}}
			}
			if i%3 == 0 {
				_ = f.Unload(ctx, name) // may come before the first load
			} else if err := f.Load(ctx, name, opts); err != nil {
				t.Error(err)
			}
			_, _ = f.ask(name, "", "x", 1, 0) // must not hang or crash, served or not
		})
	}
	wg.Wait()
	for _, name := range []string{"m", "up"} {
		opts := serve.LoadOptions{ConfigJSON: `{}`, Files: map[string][]byte{"1/model.onnx": onnxtest.MLP(1, 4, 3)}}
		if err := f.Load(ctx, name, opts); err != nil {
			t.Error(err)
		}
		if _, err := f.ask(name, "", "x", 1, 0); err != nil {
			t.Error(err)
		}
	}
}

func TestUnloadAndLoad(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 3)})
	ctx := context.Background()
	if err := f.Unload(ctx, "mlp"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("mlp", "", "x", 1, 0); err == nil {
		t.Error("an unloaded model answered")
	}
	if err := f.Load(ctx, "mlp", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("mlp", "", "x", 1, 0); err != nil {
		t.Error(err)
	}
	if err := f.Load(ctx, "nope", serve.LoadOptions{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("loading an unknown model gave %v", err)
	}
	if err := f.Unload(ctx, "nope"); err == nil {
		t.Error("an unknown model was unloaded")
	}
}

func TestLoadOverridesConfigAndFiles(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 3)})
	ctx := context.Background()
	if err := f.Load(ctx, "mlp", serve.LoadOptions{ConfigJSON: `{"max_batch_size": 2}`}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("mlp", "", "x", 3, 0); err == nil || !strings.Contains(err.Error(), "must be <= 2") {
		t.Errorf("the overriding batch size is not in force: %v", err)
	}
	err := f.Load(ctx, "fresh", serve.LoadOptions{
		ConfigJSON: `{"max_batch_size": 8}`, Files: map[string][]byte{"5/model.onnx": onnxtest.MLP(2, 4, 3)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := f.ask("fresh", "5", "x", 1, 0); err != nil || r.served != "5" {
		t.Errorf("a model given in the request: %v", err)
	}
}

// A request that names no version is told of the one that would have served: the
// greatest, or what the alias stands for. It is always the same.
func TestBrokenVersionsAreToldInOrder(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{
		"m/2/model.onnx": []byte("not a model"), "m/9/model.onnx": []byte("not a model"), "m/10/model.onnx": []byte("not a model"),
		"m/config.yaml": []byte("version_policy: {all: true}\n"),
	})
	told := func(version, want string) {
		t.Helper()
		for range 20 {
			if _, err := f.Lookup("m", version); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("version %q: %v, want %q", version, err, want)
			}
		}
	}
	told("", "'m' version 10 is not at ready state")
	told("9", "'m' version 9 is not at ready state")
	told("safe", "'m'")
	f.Name(map[string]route.Names{"m": {"": {Version: 2}, "safe": {Version: 9}}})
	told("", "'m' version 2 is not at ready state")
	told("safe", "'m' version 9 is not at ready state")
}

// Versions, labels and policies of one model.
func TestVersionsAndLabels(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{
		"m/1/model.onnx": onnxtest.MLP(1, 4, 3), "m/2/model.onnx": onnxtest.MLP(2, 4, 3), "m/10/model.onnx": onnxtest.MLP(3, 4, 3),
		"m/config.yaml": []byte("version_policy: {all: true}\nlabels: {stable: 2}\n"),
	})
	for version, want := range map[string]string{"": "10", "1": "1", "stable": "2", "10": "10"} {
		if r, err := f.ask("m", version, "x", 1, 0); err != nil || r.served != want {
			t.Errorf("version %q was served by %s: %v", version, r.served, err)
		}
	}
	versions, err := f.Versions("m")
	if err != nil || len(versions) != 3 || versions[2].Number != 10 {
		t.Errorf("%v, %v", versions, err)
	}
}

// Polling picks up a new version and drops a removed model.
func TestPolling(t *testing.T) {
	f := newFixture(t, serve.Config{Poll: 5 * time.Millisecond}, map[string][]byte{
		"m/1/model.onnx": onnxtest.MLP(1, 4, 3), "gone/1/model.onnx": onnxtest.MLP(1, 4, 3),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	f.write("m/2/model.onnx", onnxtest.MLP(2, 4, 3))
	if err := os.RemoveAll(filepath.Join(f.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		r, err := f.ask("m", "", "x", 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ask("gone", "", "x", 1, 0); err != nil && r.served == "2" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still served by version %s", r.served)
		}
		time.Sleep(time.Millisecond) // between two looks at another goroutine's work
	}
}

// An impossible objective is raised rather than refusing everything.
func TestImpossibleSLOIsRaised(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{
		"slow/1/model.onnx": onnxtest.Slow(2000), "slow/config.yaml": []byte("slo: 1ms\n"),
	})
	in := tensor.Tensor{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{1, 64}, Data: make([]byte, 256)}
	if err := f.Predict(context.Background(), &request{model: "slow", in: serve.Request{Inputs: []tensor.Tensor{in}}}); err != nil {
		t.Error(err)
	}
}

// A load request that fails says so to its client; the server stays ready. A
// configured model that is missing keeps it from being ready.
func TestReadinessIsAboutConfiguredModels(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 3)})
	err := f.Load(context.Background(), "upload", serve.LoadOptions{ConfigJSON: `{}`, Files: map[string][]byte{"1/model.onnx": onnxtest.HugeDims()}})
	if err == nil || !f.Ready() {
		t.Errorf("a refused upload: error %v, ready %t", err, f.Ready())
	}
	f.write("mlp/1/model.onnx", []byte("broken"))
	if err := f.Load(context.Background(), "mlp", serve.LoadOptions{}); err == nil || !f.Ready() {
		t.Errorf("a refused replacement of a version that still answers: error %v, ready %t", err, f.Ready())
	}
	f.write("late/1/model.onnx", []byte("broken"))
	g := newFixture(t, serve.Config{}, map[string][]byte{"late/1/model.onnx": []byte("broken")})
	if g.Ready() || !strings.Contains(g.Unready(), "late") {
		t.Errorf("a configured model that does not load: ready %t, %q", g.Ready(), g.Unready())
	}
}
