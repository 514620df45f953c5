package probe_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// The test program is its own sandboxed child: "child <mode> <library>".
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "child" {
		os.Exit(m.Run())
	}
	switch os.Args[2] {
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case "killed":
		fmt.Fprintln(os.Stderr, "loading\nout of\x1bmemory")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hang":
		time.Sleep(time.Hour)
	case "confined", "limited":
		confinedChild(os.Args[2] == "limited")
	case "late":
		time.Sleep(300 * time.Millisecond)
		fmt.Print(`{"error":"late"}`)
	case "orphan":
		sleep := exec.Command("/bin/sleep", "60")
		sleep.Stdout = os.Stdout // which stays open
		if err := sleep.Start(); err != nil {
			panic(err)
		}
		fmt.Print(`{"error":"orphan"}`)
		_ = os.WriteFile(os.Args[4], []byte(strconv.Itoa(sleep.Process.Pid)), 0o600)
	case "garbage":
		fmt.Print(strings.Repeat("not a reply ", 100_000))
	default:
		err := probe.Child(context.Background(), os.Stdin, os.Stdout, func() (engine.Engine, error) { return ortengine.Open(os.Args[3]) })
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func library(t testing.TB) string {
	t.Helper()
	path, err := ortlib.Locate(context.Background(), ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func sandbox(t testing.TB, mode string) probe.Sandbox {
	return probe.Sandbox{Command: []string{os.Args[0], "child", mode, library(t)}}
}

// The child finds the same as the probe does in this process.
func TestSandboxFindsWhatTheProbeFinds(t *testing.T) {
	e, err := ortengine.Open(library(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"mlp": true, "exclaim": true, "identity_all": true, "cast_bf16": true, "lookup": true, "add_sub": true, "sequence_mean": true,
		"batch_mean": false, "batch_prefix": false, "batch_size": false, "large_mean": false, "squeezed": false,
		"quantized": false, "quantized_lookup": false,
	} {
		spec := enginetest.Spec(t, name, onnxtest.Models()[name], 8)
		there, err := sandbox(t, "real").Try(context.Background(), spec)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		here := probe.Invariance(context.Background(), enginetest.Open(t, e, name, spec.Data, 8), spec)
		if here != there || here.Invariant != want {
			t.Errorf("%s: here %+v, in the sandbox %+v; want invariant %t", name, here, there, want)
		}
	}
}

func TestSandboxContainsBadModels(t *testing.T) {
	good := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
	broken := good
	broken.Data = broken.Data[:len(broken.Data)-7]
	for _, c := range []struct {
		mode string
		spec engine.Spec
		want string
		code string
	}{
		{"crash", good, `model "mlp" crashed its trial run in the sandbox: SIGSEGV`, ""},
		{"killed", good, `model "mlp" crashed its trial run in the sandbox: out of memory`, probe.CodeKilled},
		{"garbage", good, `model "mlp" crashed its trial run in the sandbox`, ""},
		{"hang", good, `model "mlp" did not finish its trial run in the sandbox within 300ms`, probe.CodeTimeout},
		{"real", broken, `refuses model "mlp"`, ""},
	} {
		s := sandbox(t, c.mode)
		if c.mode == "hang" {
			s.Timeout = 300 * time.Millisecond
		}
		if _, err := s.Try(context.Background(), c.spec); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, c.want) || fault.Of(err).Code != c.code {
			t.Errorf("%s: got %v, want %q", c.mode, err, c.want)
		}
	}
}

// The child lives on while threads of this process end, be it the one that started it.
func TestSandboxOutlivesThreads(t *testing.T) {
	spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
	trials, done := make(chan error), make(chan struct{})
	var others sync.WaitGroup
	defer others.Wait()
	defer close(done)
	const n = 8
	for range n {
		go func() { _, err := sandbox(t, "late").Try(context.Background(), spec); trials <- err }()
		others.Go(func() {
			for { // it has the processors busy, so that who starts a child goes on elsewhere
				select {
				case <-done:
					return
				default:
					ended := make(chan struct{})
					go func() { defer close(ended); runtime.LockOSThread() }() // its thread ends with it
					<-ended
				}
			}
		})
	}
	for range n {
		if err := <-trials; err == nil || fault.Of(err).Message != "late" {
			t.Errorf("the child did not live to say so: %v", err)
		}
	}
}

// A child whose words cannot be read to their end says nothing about the model.
func TestSandboxThatCannotBeRead(t *testing.T) {
	noted := filepath.Join(t.TempDir(), "pid")
	s := sandbox(t, "orphan")
	s.Command, s.Drain = append(s.Command, noted), 50*time.Millisecond
	_, err := s.Try(context.Background(), enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8))
	if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != probe.CodeSandbox || !errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("got %v, want %s", err, probe.CodeSandbox)
	}
	text, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// A child that cannot be started says nothing about the model.
func TestSandboxThatCannotStart(t *testing.T) {
	spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
	moved := probe.Sandbox{Command: []string{filepath.Join(t.TempDir(), "moved"), "child"}}
	if _, err := moved.Try(context.Background(), spec); !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != probe.CodeSandbox || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %s", err, probe.CodeSandbox)
	}
}

// A load that is cancelled says nothing about the model.
func TestSandboxGivesUpWithItsCaller(t *testing.T) {
	spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
	cancelled, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	late, cancel2 := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel2()
	for _, c := range []struct {
		ctx   context.Context
		kind  fault.Kind
		cause error
	}{{cancelled, fault.Canceled, context.Canceled}, {late, fault.DeadlineExceeded, context.DeadlineExceeded}} {
		_, err := sandbox(t, "hang").Try(c.ctx, spec)
		if !fault.Is(err, c.kind) || !errors.Is(err, c.cause) || strings.Contains(err.Error(), "1m0s") {
			t.Errorf("got %v, want %s", err, c.kind)
		}
	}
}

func TestCacheTriesOnceForEachSetting(t *testing.T) {
	cache := probe.Cache{Dir: t.TempDir() + "/new", Runtime: "r1", Log: slog.New(slog.DiscardHandler)}
	tries := 0
	var outcome error
	get := func(spec engine.Spec, sum string) probe.Report {
		r, err := cache.Get(context.Background(), spec, sum, func(context.Context, engine.Spec) (probe.Report, error) {
			tries++
			return probe.Report{Invariant: true, Reason: sum}, outcome
		})
		if !errors.Is(err, outcome) {
			t.Fatalf("got error %v", err)
		}
		return r
	}
	port := model.Port{Name: "x", Datatype: tensor.Int64, Shape: tensor.Shape{-1, 4}}
	spec := engine.Spec{Name: "m", MaxRows: 8, Signature: &model.Signature{Inputs: []model.Port{port}}}
	for range 3 {
		if r := get(spec, "a"); r.Reason != "a" || !r.Invariant {
			t.Errorf("remembered %+v", r)
		}
	}
	get(spec, "b")
	spec.Execution.IntraThreads = 2
	get(spec, "a")
	cache.Runtime = "r2"
	get(spec, "a")
	for _, change := range []func(*model.Port){
		func(p *model.Port) { p.Name = "x2" },
		func(p *model.Port) { p.Datatype = tensor.Int32 },
		func(p *model.Port) { p.Shape = tensor.Shape{-1, -1} },
	} {
		other := port
		change(&other)
		spec.Signature = &model.Signature{Inputs: []model.Port{other}}
		get(spec, "a")
	}
	spec.Signature = &model.Signature{Inputs: []model.Port{port}, Outputs: []model.Port{port}}
	get(spec, "a")
	port.Labels = []string{"cat", "dog"} // which are words only
	spec.Signature = &model.Signature{Inputs: []model.Port{port}, Outputs: []model.Port{port}}
	get(spec, "a")
	if tries != 8 {
		t.Errorf("%d tries for 8 settings", tries)
	}
	outcome = errors.New("refused")
	get(spec, "c")
	get(spec, "c")
	if tries != 10 {
		t.Errorf("a refusal was remembered: %d tries", tries)
	}
}

func TestSweepMeasuresGrowingRuns(t *testing.T) {
	e, err := ortengine.Open(library(t))
	if err != nil {
		t.Fatal(err)
	}
	spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 16, 3), 6)
	points := probe.Sweep(context.Background(), enginetest.Open(t, e, "mlp", spec.Data, 6), spec, time.Second)
	var sizes []int
	for _, p := range points {
		if p.Took <= 0 || p.Took == math.MaxInt64 {
			t.Errorf("%+v", p)
		}
		if p.Beside == 0 {
			sizes = append(sizes, p.Rows)
		}
	}
	if fmt.Sprint(sizes) != "[1 2 4 6]" || len(points) != 5 {
		t.Errorf("measured %+v", points)
	}
}

// A model that takes minutes does not hold the server's start up, and is known
// to take long.
func TestSweepEndsOnSlowModels(t *testing.T) {
	e, err := ortengine.Open(library(t))
	if err != nil {
		t.Fatal(err)
	}
	spec := enginetest.Spec(t, "slow", onnxtest.Slow(100_000_000), 8)
	s := enginetest.Open(t, e, "slow", spec.Data, 8)
	began := time.Now()
	points := probe.Sweep(context.Background(), s, spec, 10*time.Millisecond)
	took := time.Since(began)
	if took > 5*time.Second || len(points) != 1 || points[0].Rows != 1 || points[0].Beside != 0 || points[0].Took < 200*time.Millisecond || points[0].Took > took {
		t.Errorf("%+v after %s", points, took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if points := probe.Sweep(ctx, s, spec, time.Second); len(points) != 0 {
		t.Errorf("a sweep that its caller ended measured %+v", points)
	}
}

// The sweep's time ends in any of its runs.
func TestSweepOfModelsThatTakeLong(t *testing.T) {
	for took, want := range map[time.Duration]int{
		6 * time.Second: 1, 11 * time.Second: 1, 19 * time.Second: 1, 20 * time.Second: 1, time.Hour: 1, 100 * time.Millisecond: 4,
	} {
		synctest.Test(t, func(t *testing.T) {
			slow := fake(func(x []int64) ([]float32, time.Duration) { return make([]float32, len(x)), took })
			points := probe.Sweep(t.Context(), slow, slow.spec(8), time.Second)
			if len(points) < 1 || len(points) > want || points[0].Rows != 1 || points[0].Took != min(took, 20*time.Second) {
				t.Errorf("a model of %v: %+v", took, points)
			}
		})
	}
}

// A model that fails costs nothing that is known.
func TestSweepOfAFailingModel(t *testing.T) {
	failing := fake(func([]int64) ([]float32, time.Duration) { return nil, time.Millisecond })
	if points := probe.Sweep(t.Context(), failing, failing.spec(8), time.Second); len(points) != 0 {
		t.Errorf("%+v", points)
	}
}

func TestWarmUpRunsWhatTheConfigAsksFor(t *testing.T) {
	e, err := ortengine.Open(library(t))
	if err != nil {
		t.Fatal(err)
	}
	spec := enginetest.Spec(t, "addsub", onnxtest.AddSub(), 8)
	s := enginetest.Open(t, e, "addsub", spec.Data, 8)
	warmup := model.Warmup{Name: "w", BatchSize: 3, Count: 2, Inputs: map[string]model.WarmupInput{
		"a": {Datatype: tensor.FP32, Dims: tensor.Shape{4}, Random: true},
		"b": {Datatype: tensor.FP32, Dims: tensor.Shape{4}},
	}}
	if err := probe.Warm(context.Background(), s, spec, warmup); err != nil {
		t.Error(err)
	}
	delete(warmup.Inputs, "b")
	if err := probe.Warm(context.Background(), s, spec, warmup); err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("a warm-up without data for an input gave %v", err)
	}
}
