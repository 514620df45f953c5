package serve_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// shelf counts how often offers are read.
type shelf struct{ reads atomic.Int64 }

func (s *shelf) offer(t testing.TB, number int64, data []byte) serve.Offer {
	t.Helper()
	found, err := onnx.Inspect(data, onnx.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return serve.Offer{Number: number, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(data)), Config: model.Config{Name: "m"}, Signature: found.Signature,
		Read: func(context.Context) ([]byte, error) { s.reads.Add(1); return data, nil }}
}

func ask(f *fixture, name, version string) (*request, error) {
	r := &request{model: name, version: version, in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 1, 0)}}}
	return r, f.Predict(context.Background(), r)
}

func states(f *fixture) (out []string) {
	for _, e := range f.Index() {
		out = append(out, e.Name+":"+e.Version+" "+string(e.State))
	}
	return out
}

// An offered version is known before it is loaded, is loaded once however many
// want it, and lies beside those of the repository.
func TestOfferedVersionsAreLoadedOnDemand(t *testing.T) {
	f := newFixture(t, serve.Config{LoadWait: time.Minute}, map[string][]byte{"m/1/model.onnx": onnxtest.MLP(1, 4, 3), "m/3/model.onnx": onnxtest.MLP(3, 4, 3), "m/config.yaml": []byte("version_policy: {all: true}")})
	s := &shelf{}
	if refused := f.Offer(t.Context(), "m", []serve.Offer{s.offer(t, 2, onnxtest.MLP(2, 4, 3)), s.offer(t, 3, onnxtest.MLP(9, 4, 3)), s.offer(t, 4, onnxtest.MLP(4, 4, 3))}); len(refused) > 0 {
		t.Fatal(refused)
	}
	v, err := f.Lookup("m", "2")
	if err != nil || len(v.Signature.Inputs) != 1 || v.MaxRows != 32 || s.reads.Load() != 0 || !f.Ready() {
		t.Fatalf("%+v %v, read %d times", v, err, s.reads.Load())
	}
	if v, err := f.Lookup("m", ""); err != nil || v.Text != "4" {
		t.Errorf("the greatest is %v, %v", v, err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if r, err := ask(f, "m", "2"); err != nil || r.served != "2" {
				t.Errorf("served by %q, %v", r.served, err)
			}
		})
	}
	wg.Wait()
	if n := s.reads.Load(); n != 1 {
		t.Errorf("read %d times", n)
	}
	if r, err := ask(f, "m", "3"); err != nil || r.served != "3" || s.reads.Load() != 1 {
		t.Errorf("the repository's own version 3: %v, read %d times", err, s.reads.Load())
	}
	if got := states(f); !slices.Equal(got, []string{"m:1 READY", "m:2 READY", "m:3 READY", "m:4 READY"}) {
		t.Error(got)
	}
	loaded, err := f.Lookup("m", "2")
	if err != nil || loaded.Stats.Success.Count.Load() != 16 {
		t.Fatalf("%v %v", loaded, err)
	}
	f.Offer(t.Context(), "m", []serve.Offer{s.offer(t, 2, onnxtest.MLP(2, 4, 3))})
	if same, err := f.Lookup("m", "2"); err != nil || same != loaded {
		t.Errorf("one that stays was loaded anew, %v", err)
	}
	if _, err := f.Lookup("m", "4"); !fault.Is(err, fault.NotFound) {
		t.Errorf("one that is offered no more: %v", err)
	}
	if err := f.Unload(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(f, "m", "2"); err == nil {
		t.Error("an unloaded model answers")
	}
	if err := f.Load(t.Context(), "m", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(f, "m", "2"); err != nil {
		t.Errorf("loaded again: %v", err)
	}
	f.Offer(t.Context(), "new", []serve.Offer{s.offer(t, 1, onnxtest.MLP(2, 4, 3))})
	if _, err := ask(f, "new", ""); err != nil {
		t.Errorf("a model that the repository does not have: %v", err)
	}
	f.Offer(t.Context(), "new", nil)
	if _, err := ask(f, "new", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("one that is gone: %v", err)
	}
}

// Under a bound on memory the versions that were not used for longest make room,
// and come back when they are wanted.
func TestOfferedVersionsMakeRoom(t *testing.T) {
	data := onnxtest.MLP(1, 4, 256, 256, 3)
	f := newFixture(t, serve.Config{LoadWait: time.Minute, Memory: int64(len(data))*2 - 1}, nil)
	s := &shelf{}
	var offers []serve.Offer
	for n := range int64(3) {
		offers = append(offers, s.offer(t, n+1, onnxtest.MLP(uint64(n), 4, 256, 256, 3)))
	}
	f.Offer(t.Context(), "m", offers)
	for i, version := range []string{"1", "2", "3", "1", "2", "2"} {
		if r, err := ask(f, "m", version); err != nil || r.served != version {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if n := s.reads.Load(); n != 5 {
		t.Errorf("read %d times, want 5: only the last request's version is loaded", n)
	}
	if v, err := f.Lookup("m", "2"); err != nil || v.Stats.Success.Count.Load() != 3 {
		t.Errorf("%v: statistics do not outlast an eviction", err)
	}

	var wg sync.WaitGroup // under load from all sides no request fails
	for i := range 6 {
		wg.Go(func() {
			for n := range 10 {
				version := string(rune('1' + (i+n)%3))
				if r, err := ask(f, "m", version); err != nil || r.served != version {
					t.Errorf("served by %q: %v", r.served, err)
				}
			}
		})
	}
	wg.Wait()
}

// A request does not wait for ever; what cannot be loaded is not tried by each.
func TestOfferedVersionsThatDoNotCome(t *testing.T) {
	f := newFixture(t, serve.Config{LoadWait: time.Nanosecond}, nil)
	s := &shelf{}
	release := make(chan struct{})
	slow, broken, rotten := s.offer(t, 1, onnxtest.MLP(1, 4, 3)), s.offer(t, 2, onnxtest.MLP(2, 4, 3)), s.offer(t, 3, onnxtest.MLP(3, 4, 3))
	read := slow.Read
	slow.Read = func(ctx context.Context) ([]byte, error) {
		select {
		case <-release:
			return read(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var tries atomic.Int64
	broken.Read = func(context.Context) ([]byte, error) {
		tries.Add(1)
		return nil, fault.New(fault.Unavailable, "the store is away")
	}
	other := onnxtest.MLP(7, 4, 3)
	rotten.Read = func(context.Context) ([]byte, error) { return other, nil }
	f.Offer(t.Context(), "m", []serve.Offer{slow, broken, rotten})
	_, err := ask(f, "m", "1")
	if fault.CodeOf(err) != "model_loading" || fault.Of(err).RetryAfter <= 0 {
		t.Fatalf("%v", err)
	}
	close(release)
	until := func(version string, good func(error) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			_, err := ask(f, "m", version)
			if good(err) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	until("1", func(err error) bool { return err == nil })
	until("2", func(err error) bool {
		return fault.CodeOf(err) == "model_not_ready" && strings.Contains(err.Error(), "the store is away")
	})
	until("3", func(err error) bool {
		return fault.CodeOf(err) == "model_not_ready" && strings.Contains(err.Error(), "expected")
	})
	for range 20 {
		_, _ = ask(f, "m", "2")
	}
	if n := tries.Load(); n != 1 {
		t.Errorf("what failed was tried %d times at once", n)
	}
	if got := states(f); !slices.Contains(got, "m:2 UNAVAILABLE") || !slices.Contains(got, "m:1 READY") {
		t.Error(got)
	}
	if _, err := ask(f, "m", "1"); err != nil {
		t.Errorf("the others suffer: %v", err)
	}
}
