package batcher

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

func newBench(b *testing.B, cfg Config, run RunFunc[int]) *Batcher[int] {
	b.Helper()
	bt, err := New(run, cfg)
	if err != nil {
		b.Fatal(err)
	}
	return bt
}

// BenchmarkSubmitInline is the whole cost of a request that meets no other.
func BenchmarkSubmitInline(b *testing.B) {
	bt := newBench(b, Config{MaxRows: 32, SLO: time.Second}, func(context.Context, []*Task[int]) error { return nil })
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	t := &Task[int]{Rows: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bt.Submit(ctx, t); err != nil {
			b.Fatal(err)
		}
	}
}

// spin burns processor time, as a run on the processor does.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// BenchmarkSubmit64 has 64 closed-loop clients of a model whose run takes 20 us
// of processor time whatever its rows.
func BenchmarkSubmit64(b *testing.B) {
	for _, executors := range []int{1, 2} {
		b.Run(map[int]string{1: "1-executor", 2: "2-executors"}[executors], func(b *testing.B) {
			var rows, runs atomic.Int64
			bt := newBench(b, Config{MaxRows: 64, SLO: time.Second, Executors: executors}, func(_ context.Context, batch []*Task[int]) error {
				rows.Add(int64(len(batch)))
				runs.Add(1)
				spin(20 * time.Microsecond)
				return nil
			})
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				t := &Task[int]{Rows: 1}
				for pb.Next() {
					if _, err := bt.Submit(ctx, t); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(rows.Load())/float64(runs.Load()), "rows/run")
		})
	}
}

// BenchmarkRefuse is the cost of turning a request away under overload.
func BenchmarkRefuse(b *testing.B) {
	cost := NewCost(1, 1)
	cost.Seed(1, 0, time.Hour)
	release := make(chan struct{})
	bt := newBench(b, Config{MaxRows: 1, SLO: time.Second, Executors: 1, Cost: cost}, func(context.Context, []*Task[int]) error {
		<-release
		return nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = bt.Submit(context.Background(), &Task[int]{Rows: 1})
	}()
	for bt.Stats().Running == 0 {
		time.Sleep(time.Millisecond)
	}
	t := &Task[int]{Rows: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bt.Submit(b.Context(), t); err == nil {
			b.Fatal("accepted")
		}
	}
	close(release)
	<-done
}
