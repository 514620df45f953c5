package batcher

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBackToNormal: two seconds after ten times what there is, who asks for half is answered as
// if that had never been, also where runs took three times as long meanwhile, which the table of
// costs has learned: a queue is no longer than the SLO, and what was dear is run again.
func TestBackToNormal(t *testing.T) {
	never := relapse{load: .5, drag: 1}.play(t)
	for _, drag := range []float64{1, 3} {
		after := relapse{load: 10, drag: drag}.play(t)
		t.Logf("runs %v times as long: p99 %v after, %v without", drag, after, never)
		if after > never+never/10 {
			t.Errorf("runs %v times as long: p99 %v from two seconds after the load on, %v without it", drag, after, never)
		}
	}
}

// relapse is traffic of half of what there is, then of load times, then of half again.
type relapse struct {
	load float64
	drag float64 // how many times as long runs take meanwhile
}

// play returns the 99th percentile of what was sent from two seconds after the load on.
func (r relapse) play(t *testing.T) (p99 time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const from, to, settled, end = 4 * time.Second, 9 * time.Second, 11 * time.Second, 31 * time.Second
		var (
			device = cores{slower: .25}
			begin  = time.Now()
			wg     sync.WaitGroup
			mu     sync.Mutex
			took   []time.Duration
		)
		b, err := New(func(ctx context.Context, batch []*Task[struct{}]) error {
			began := time.Now()
			err := device.run(ctx, batch)
			if at := began.Sub(begin); at >= from && at < to {
				time.Sleep(time.Duration((r.drag - 1) * float64(time.Since(began))))
			}
			return err
		}, Config{MaxRows: 64, SLO: time.Second, Executors: 2, Cost: device.cost()})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(at, until time.Duration, load float64, stream uint64) {
			rng := rand.New(rand.NewPCG(1, stream))
			for at < until {
				at += time.Duration(rng.ExpFloat64() / load / device.capacity() * float64(time.Second))
				due := at
				time.Sleep(time.Until(begin.Add(due)))
				wg.Go(func() {
					_, err := b.Submit(t.Context(), &Task[struct{}]{Rows: 16})
					mu.Lock()
					defer mu.Unlock()
					if due < settled {
						return
					}
					if err != nil {
						t.Errorf("refused %v after the load: %v", due-to, err)
					}
					took = append(took, time.Since(begin.Add(due)))
				})
			}
		}
		ask(0, from, .5, 1)
		ask(from, to, r.load, 2)
		ask(to, end, .5, 3)
		wg.Wait()
		slices.Sort(took)
		p99 = took[len(took)*99/100]
		if err := b.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return p99
}
