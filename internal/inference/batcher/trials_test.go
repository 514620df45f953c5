package batcher

import (
	"sync/atomic"
	"testing"
	"time"
)

// A table that wrongly says that a second run at a time does not pay is found out, though
// nobody is in a hurry.
func TestParallelRunsAreTried(t *testing.T) {
	cost := NewCost(1, 2)
	cost.Seed(1, 0, 10*millisecond)
	cost.Seed(1, 1, 30*millisecond) // a busy machine: it is 10 ms
	inBubble(t, Config{MaxRows: 1, SLO: time.Second, Executors: 2, Cost: cost}, linear(10*millisecond, 0), func(b *bench) {
		if b.parallel != 1 {
			t.Fatalf("%d runs at a time at first", b.parallel)
		}
		for range 4 {
			b.wg.Go(func() {
				for range 100 {
					if _, err := b.Submit(b.t.Context(), &Task[string]{Rows: 1}); err != nil {
						b.t.Error(err)
					}
				}
			})
		}
		b.wg.Wait()
		if b.parallel != 2 {
			b.t.Errorf("%d runs at a time after 400", b.parallel)
		}
	})
}

// A table that says of one size that it takes for ever beside another run, as the sweep of a
// model on a busy machine may, is found out, though all that would meet another is refused.
func TestWhatIsRefusedIsTried(t *testing.T) {
	cost, device := NewCost(64, 2), cores{}
	for rows := 1; rows <= 64; rows *= 2 {
		cost.Seed(rows, 0, device.takes(rows, 0))
		if cost.Seed(rows, 1, device.takes(rows, 1)); rows >= 16 {
			cost.Seed(rows, 1, time.Duration(rows)*200*millisecond)
		}
	}
	inBubble(t, Config{MaxRows: 64, SLO: time.Second, Executors: 2, Cost: cost}, func(n int) time.Duration { return device.takes(n, 0) }, func(b *bench) {
		const requests = 400
		var refused atomic.Int64
		for range requests {
			b.wg.Go(func() {
				if _, err := b.Submit(b.t.Context(), &Task[string]{Rows: 16}); err != nil {
					refused.Add(1)
				}
			})
			time.Sleep(4 * millisecond) // each meets another
		}
		b.wg.Wait()
		if n := refused.Load(); n > requests/20 {
			b.t.Errorf("%d of %d refused, where two runs at a time are enough", n, requests)
		}
	})
}
