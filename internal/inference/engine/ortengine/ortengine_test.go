package ortengine_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// TestMain gives the runtime a home of its own, once its library is found, to
// see what it leaves there.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		path, err := ortlib.Locate(context.Background(), ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		home, err := os.MkdirTemp("", "home")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(home) }()
		for key, value := range map[string]string{ortlib.EnvPath: path, "HOME": home, "XDG_CACHE_HOME": home} {
			if err := os.Setenv(key, value); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

// The runtime keeps no identifier and no telemetry on the user's machine.
func TestRuntimeLeavesNothingBehind(t *testing.T) {
	e := open(t)
	s := enginetest.Open(t, e, "mlp", onnxtest.MLP(1, 4, 3), 8)
	in := enginetest.Floats("x", 1, 0)
	if err := s.Run(context.Background(), []*engine.Part{{Rows: 1, Inputs: []tensor.Tensor{in}}}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(os.Getenv("HOME"))
	if err != nil || len(left) > 0 {
		t.Errorf("the runtime left %v in the user's home: %v", left, err)
	}
}

func open(t testing.TB) *ortengine.Engine {
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

func TestContract(t *testing.T) { enginetest.Run(t, open(t)) }

func TestSecondLibraryIsRefused(t *testing.T) {
	open(t)
	if _, err := ortengine.Open("/elsewhere/libonnxruntime.so"); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
}

// What the library or the wrapper cannot do is an error that names it.
func TestUnsupportedIsNamed(t *testing.T) {
	e := open(t)
	for name, edit := range map[string]func(*engine.Spec){
		"provider":     func(s *engine.Spec) { s.Execution.Provider = "quantum" },
		"cuda":         func(s *engine.Spec) { s.Execution.Provider = "cuda" },
		"tensorrt":     func(s *engine.Spec) { s.Execution.Provider = "tensorrt" },
		"scalar input": func(s *engine.Spec) { *s = enginetest.Spec(t, "scalar", onnxtest.Scalar(), 0) },
	} {
		spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
		edit(&spec)
		if s, err := e.Open(context.Background(), spec); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: got %v, %v", name, s, err)
		}
	}
	spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
	spec.Execution.Optimization = "most"
	if _, err := e.Open(context.Background(), spec); !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown optimisation level gave %v", err)
	}
	spec = enginetest.Spec(t, "echo", onnxtest.Echo(tensor.FP32), 8)
	spec.Signature.Outputs[0].Datatype = tensor.Int64
	if _, err := e.Open(context.Background(), spec); !fault.Is(err, fault.Invalid) {
		t.Errorf("an output that is an input, of another datatype, gave %v", err)
	}
}

func BenchmarkRun(b *testing.B) {
	e := open(b)
	for _, c := range []struct {
		name  string
		sizes []int
		rows  int
	}{{"tiny/1", []int{4, 16, 3}, 1}, {"mid/1", []int{784, 512, 256, 10}, 1}, {"mid/32", []int{784, 512, 256, 10}, 32}} {
		b.Run(c.name, func(b *testing.B) {
			s := enginetest.Open(b, e, "mlp", onnxtest.MLP(1, c.sizes...), 32)
			var parts []*engine.Part
			for range c.rows {
				parts = append(parts, &engine.Part{Rows: 1, Inputs: []tensor.Tensor{{
					Datatype: tensor.FP32, Shape: tensor.Shape{1, int64(c.sizes[0])}, Data: make([]byte, 4*c.sizes[0]),
				}}})
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Run(context.Background(), parts); err != nil {
					b.Fatal(err)
				}
				for _, p := range parts {
					p.Slab.Release()
					p.Slab, p.Outputs, p.Dims = nil, p.Outputs[:0], p.Dims[:0]
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.rows), "ns/row")
		})
	}
}
