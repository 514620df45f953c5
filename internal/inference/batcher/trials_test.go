package batcher

import (
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
