package batcher

import (
	"context"
	"sync/atomic"
	"syscall"
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
	defer processor(b)()
	for b.Loop() {
		if _, err := bt.Submit(ctx, t); err != nil {
			b.Fatal(err)
		}
	}
}

// processor reports the processor time per operation: on a shared machine that
// is the figure to compare.
func processor(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
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
			defer processor(b)()
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

// BenchmarkServer64 has 64 closed-loop clients whose requests cost 60 us of
// processor time each beside the run, as an HTTP request does, and a model
// whose runs take 60 us and 22 us for each row.
func BenchmarkServer64(b *testing.B) {
	takes := func(n int) time.Duration { return time.Duration(60+22*n) * time.Microsecond }
	for _, executors := range []int{1, 2} {
		b.Run(map[int]string{1: "1-executor", 2: "2-executors"}[executors], func(b *testing.B) {
			var rows, runs atomic.Int64
			cost := NewCost(64, executors)
			for n := 1; n <= 64; n *= 2 {
				cost.Seed(n, 0, takes(n))
			}
			bt := newBench(b, Config{MaxRows: 64, SLO: time.Second, Executors: executors, Cost: cost}, func(_ context.Context, batch []*Task[int]) error {
				rows.Add(int64(len(batch)))
				runs.Add(1)
				spin(takes(len(batch)))
				return nil
			})
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.SetParallelism(32)
			defer processor(b)()
			b.RunParallel(func(pb *testing.PB) {
				t := &Task[int]{Rows: 1}
				for pb.Next() {
					spin(60 * time.Microsecond)
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
	defer processor(b)()
	for b.Loop() {
		if _, err := bt.Submit(b.Context(), t); err == nil {
			b.Fatal("accepted")
		}
	}
	close(release)
	<-done
}
