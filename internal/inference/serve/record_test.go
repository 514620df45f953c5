package serve_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/record"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/access"
)

// ledger keeps what is recorded.
type ledger struct {
	mu      sync.Mutex
	entries []record.Entry
}

func (l *ledger) Entry() *record.Entry { return new(record.Entry) }

func (l *ledger) Record(e *record.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, *e)
}

// told is a request that says more about itself, and notes its prediction's id.
type told struct {
	request
	prediction record.ID
}

func (r *told) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	if err := r.request.Decode(ctx, v, req); err != nil {
		return err
	}
	req.ID, req.Tenant, req.Class, req.Prediction, req.Attempt, req.Choice = r.in.ID, r.in.Tenant, r.in.Class, r.in.Prediction, r.in.Attempt, r.in.Choice
	return nil
}

func (r *told) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	r.prediction = resp.Prediction
	return r.request.Encode(ctx, v, resp)
}

// Every request that came to a version leaves one entry, which says how it ended.
func TestSettledRequestsAreRecorded(t *testing.T) {
	kept := new(ledger)
	f := newFixture(t, serve.Config{Recorder: kept}, map[string][]byte{"id/3/model.onnx": onnxtest.Identity(tensor.FP32)})
	caller := access.With(t.Context(), &access.Principal{Tenant: "acme"})
	rows := func(n int) []tensor.Tensor { return []tensor.Tensor{enginetest.Floats("in_fp32", n, 0)} }

	plain := &told{request: request{model: "id", in: serve.Request{ID: "mine", Inputs: rows(3)}}}
	choice := record.Choice{Experiment: "exp", Arm: "b", ByRule: true, Shadow: true}
	attempt := &told{request: request{model: "id", in: serve.Request{ID: strings.Repeat("x", 256), Inputs: rows(1), Tenant: "other", Class: batcher.Bulk,
		Prediction: record.NewID(time.UnixMilli(5)), Attempt: 2, Choice: choice}}}
	wrong := &told{request: request{model: "id"}}
	before := time.Now().Truncate(time.Millisecond)
	for _, r := range []*told{plain, attempt} {
		if err := f.Predict(caller, r); err != nil {
			t.Fatal(err)
		}
	}
	if f.Predict(caller, wrong) == nil {
		t.Fatal("a request without inputs was answered")
	}
	gone, cancel := context.WithCancel(caller)
	cancel()
	if f.Predict(gone, &told{request: request{model: "id", in: serve.Request{Inputs: rows(1)}}}) == nil {
		t.Fatal("a client that had gone was answered")
	}
	if f.Predict(caller, &told{request: request{model: "none"}}) == nil {
		t.Fatal("an unknown model answered")
	}

	if len(kept.entries) != 4 {
		t.Fatalf("%d entries, want 4: %+v", len(kept.entries), kept.entries)
	}
	e := kept.entries[0]
	if e.ID != plain.prediction || e.ID.IsZero() || e.Attempt != 0 || e.At.Before(before) || e.At.After(time.Now()) || e.Tenant != "acme" || e.Model != "id" || e.Version != "3" ||
		e.ClientRef != "mine" || e.Outcome != record.Succeeded || e.Rows != 3 || e.BatchRows < 3 || e.Bulk || e.Choice != (record.Choice{}) {
		t.Errorf("%+v", e)
	}
	if at, _ := e.ID.Time(); !at.Equal(e.At) {
		t.Errorf("the id says %s, the entry %s", at, e.At)
	}
	if l := e.Latency; l.Infer <= 0 || l.Total < l.Decode+l.Infer+l.Encode {
		t.Errorf("%+v", l)
	}
	e = kept.entries[1]
	if e.ID != attempt.in.Prediction || e.Attempt != 2 || e.At.Before(before) || e.Tenant != "other" || e.ClientRef != "" || !e.Bulk || e.Choice != choice {
		t.Errorf("%+v", e)
	}
	if e = kept.entries[2]; e.Outcome != record.Invalid || e.Code == "" || e.ID.IsZero() || e.Latency.Total <= 0 {
		t.Errorf("%+v", e)
	}
	if e = kept.entries[3]; e.Outcome != record.Cancelled {
		t.Errorf("%+v", e)
	}
}

type discard struct{}

func (discard) Append(context.Context, []*record.Entry) error { return nil }

// What recording adds to a request: compare with go test -bench Recording.
func BenchmarkRecording(b *testing.B) {
	l, err := record.NewLog(discard{}, record.LogConfig{Interval: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	b.Cleanup(func() { stop(); running.Wait() })
	for _, recorder := range []serve.Recorder{nil, l} {
		f := newFixture(b, serve.Config{Recorder: recorder}, map[string][]byte{"mlp/1/model.onnx": onnxtest.MLP(1, 4, 16, 3)})
		b.Run("recorded="+strconv.FormatBool(recorder != nil), func(b *testing.B) {
			r := &request{model: "mlp", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 1, 0)}}}
			caller := access.With(b.Context(), &access.Principal{Tenant: "acme"})
			b.ReportAllocs()
			for b.Loop() {
				r.out = r.out[:0]
				if err := f.Predict(caller, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
