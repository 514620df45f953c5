package serve_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/access"
)

// A tenant that fills a model's queue refuses itself, and nobody else: what counts
// is whose the request is, whether its codec says so or not.
func TestAFullQueueIsItsTenants(t *testing.T) {
	f := newFixture(t, serve.Config{MaxQueue: 4}, map[string][]byte{
		"slow/1/model.onnx": onnxtest.Slow(30_000), "slow/config.yaml": []byte("max_batch_size: 1\n"),
	})
	ask := func(tenant string) error {
		r := &request{model: "slow", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 1, 0)}}}
		r.in.Inputs[0].Shape, r.in.Inputs[0].Data = tensor.Shape{1, 64}, make([]byte, 4*64)
		return f.Predict(access.With(context.Background(), &access.Principal{Tenant: tenant}), r)
	}
	var all sync.WaitGroup
	var refused atomic.Int64
	stop := make(chan struct{})
	for range 32 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if ask("noisy") != nil {
					refused.Add(1)
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for end := time.Now().Add(20 * time.Second); refused.Load() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the queue does not fill: %d refused", refused.Load())
		}
	}
	for range 8 {
		if err := ask("quiet"); err != nil {
			t.Errorf("another tenant is refused: %v", err)
		}
	}
	close(stop)
	all.Wait()
}
