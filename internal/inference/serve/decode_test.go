package serve_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/spare"
)

// bulky is a request that is large before it is decoded.
type bulky struct {
	*request
	decoding, most, decoded *atomic.Int64
}

func (b bulky) Online() int { return 1 << 20 }

func (b bulky) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	b.decoded.Add(1)
	n := b.decoding.Add(1)
	defer b.decoding.Add(-1)
	for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
	}
	runtime.Gosched()
	return b.request.Decode(ctx, v, req)
}

// In overload most of what is refused is not decoded before, and what is large is not
// decoded by more goroutines than there are cores.
func TestRefusedBeforeDecoding(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{
		"slow/1/model.onnx": onnxtest.Slow(30_000), "slow/config.yaml": []byte("max_batch_size: 1\nslo: 20ms\n"),
	})
	var decoding, most, decoded, refused, answered, foreseen atomic.Int64
	var all sync.WaitGroup
	stop := make(chan struct{})
	for i := range 64 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := bulky{&request{model: "none", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 1, 0)}}}, &decoding, &most, &decoded}
				r.in.Inputs[0].Shape, r.in.Inputs[0].Data = tensor.Shape{1, 64}, make([]byte, 4*64)
				if err := f.Foresee(context.Background(), r); err != nil {
					t.Errorf("foreseen for a model that is not there: %v", err)
				}
				r.model = "slow"
				early := i%2 == 0 && f.Foresee(context.Background(), r) != nil
				if early {
					foreseen.Add(1)
				}
				if early || f.Predict(context.Background(), r) != nil {
					refused.Add(1)
					time.Sleep(time.Millisecond)
				} else {
					answered.Add(1)
				}
			}
		})
	}
	for end := time.Now().Add(20 * time.Second); refused.Load() < 2000 || answered.Load() < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no overload: %d refused, %d answered", refused.Load(), answered.Load())
		}
	}
	close(stop)
	all.Wait()
	if n := most.Load(); n > int64(spare.Cores()) {
		t.Errorf("%d were decoded at once", n)
	}
	v, err := f.Lookup("slow", "")
	if err != nil {
		t.Fatal(err)
	}
	if n := v.Stats.Rejected.Load(); foreseen.Load() == 0 || n != refused.Load() {
		t.Errorf("%d refusals were foreseen; %d are counted of %d", foreseen.Load(), n, refused.Load())
	}
	if early := answered.Load() + refused.Load() - decoded.Load(); early < refused.Load()/2 {
		t.Errorf("%d of %d were refused without being decoded", early, refused.Load())
	}
}
