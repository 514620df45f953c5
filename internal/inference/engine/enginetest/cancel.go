package enginetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
)

func cancelled(t *testing.T, e engine.Engine) {
	s := Open(t, e, "slow", onnxtest.Slow(100_000_000), 8) // minutes, uncancelled
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		in := tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{1, 64}, Data: make([]byte, 256)}
		began := time.Now()
		err := s.Run(ctx, []*engine.Part{part(1, in)})
		cancel()
		if took := time.Since(began); err == nil || took > 5*time.Second {
			t.Fatalf("a run cancelled after 50 ms ended after %s with error %v", took, err)
		}
	}
}

// A context that several runs have had, and that ends when none is in progress, ends
// those that come with it, and no others.
func endedBetween(t *testing.T, e engine.Engine) {
	s := Open(t, e, "addsub", onnxtest.AddSub(), 8)
	run := func(ctx context.Context) error {
		p := part(1, Floats("a", 1, 0), Floats("b", 1, 1))
		defer p.Reset()
		return s.Run(ctx, []*engine.Part{p})
	}
	ctx, cancel := context.WithCancel(context.Background())
	for range 2 {
		if err := run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a run whose context has ended: %v", err)
	}
	for range 2 {
		if err := run(context.Background()); err != nil {
			t.Errorf("a run after that with another context: %v", err)
		}
	}
}
