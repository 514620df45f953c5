package queuetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"sluice/internal/platform/queue"
)

// Bench measures publishing, alone and in batches, and consuming with
// confirmed acknowledgement. Messages have 512 bytes.
func Bench(b *testing.B, open func(t testing.TB) Env) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("Publish/batch=%d", batch), func(b *testing.B) { benchPublish(b, open(b), batch) })
	}
	for _, ordered := range []bool{false, true} {
		b.Run(fmt.Sprintf("ConsumeAck/ordered=%t", ordered), func(b *testing.B) { benchConsume(b, open(b), ordered) })
	}
}

// benchStream holds what a benchmark stores.
func benchStream(b *testing.B, env Env) {
	b.Helper()
	s := queue.Stream{Name: "BENCH", Subjects: []string{"bench.>"}, Retention: queue.Work, MaxBytes: 512 << 20}
	if err := env.Queue.Ensure(b.Context(), s); err != nil {
		b.Fatal(err)
	}
	if env.Remove != nil {
		b.Cleanup(func() { env.Remove(s.Name) })
	}
}

func benchMessages(prefix string, n int) []queue.Message {
	data := make([]byte, 512)
	list := make([]queue.Message, n)
	for i := range list {
		list[i] = queue.Message{ID: fmt.Sprintf("%s-%d", prefix, i), Subject: fmt.Sprintf("bench.k%d", i%1000), Data: data}
	}
	return list
}

func benchPublish(b *testing.B, env Env, batch int) {
	benchStream(b, env)
	ctx := context.Background()
	round := 0
	for b.Loop() {
		round++
		if err := env.Queue.Publish(ctx, benchMessages(fmt.Sprintf("m%d", round), batch)...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(round*batch)/b.Elapsed().Seconds(), "msg/s")
}

func benchConsume(b *testing.B, env Env, ordered bool) {
	benchStream(b, env)
	list := benchMessages("m", b.N)
	for len(list) > 0 {
		n := min(len(list), 1000)
		if err := env.Queue.Publish(b.Context(), list[:n]...); err != nil {
			b.Fatal(err)
		}
		list = list[n:]
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var done atomic.Int64
	all, stopped := make(chan struct{}), make(chan error, 1)
	b.ResetTimer()
	go func() {
		stopped <- env.Queue.Consume(ctx, queue.Consumer{Name: "bench", Stream: "BENCH", Concurrency: 16, Ordered: ordered}, func(context.Context, queue.Delivery) error {
			if done.Add(1) == int64(b.N) {
				close(all)
			}
			return nil
		})
	}()
	<-all
	b.StopTimer() // to stop takes as long as a pull may wait
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	cancel()
	if err := <-stopped; err != nil {
		b.Fatal(err)
	}
}
