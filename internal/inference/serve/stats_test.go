package serve

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBatchStats(t *testing.T) {
	var s Stats
	if got := slices.Collect(s.Batches()); got != nil {
		t.Errorf("before any run: %v", got)
	}
	for _, rows := range []int{4, 1, 4, maxStatBatch, maxStatBatch + 1, 1 << 40, -1} {
		s.ObserveBatch(rows, time.Nanosecond, 2*time.Nanosecond, 3*time.Nanosecond)
	}
	n := func(count, each int64) DurationSnapshot { return DurationSnapshot{count, count * each} }
	want := []BatchStat{
		{0, n(1, 1), n(1, 2), n(1, 3)},
		{1, n(1, 1), n(1, 2), n(1, 3)},
		{4, n(2, 1), n(2, 2), n(2, 3)},
		{maxStatBatch, n(3, 1), n(3, 2), n(3, 3)},
	}
	if diff := cmp.Diff(want, slices.Collect(s.Batches())); diff != "" {
		t.Error(diff)
	}
	for range s.Batches() { // stopping early is fine
		break
	}
}
