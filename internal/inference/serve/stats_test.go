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
		s.ObserveBatch(rows, 2*time.Nanosecond)
	}
	want := []BatchStat{
		{0, DurationSnapshot{1, 2}},
		{1, DurationSnapshot{1, 2}},
		{4, DurationSnapshot{2, 4}},
		{maxStatBatch, DurationSnapshot{3, 6}},
	}
	if diff := cmp.Diff(want, slices.Collect(s.Batches())); diff != "" {
		t.Error(diff)
	}
	for range s.Batches() { // stopping early is fine
		break
	}
}
