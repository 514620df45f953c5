package serve

import (
	"iter"
	"time"
)

// DurationSnapshot is a Duration at one moment.
type DurationSnapshot struct{ Count, Nanos int64 }

// Snapshot reads the two counters, one after the other.
func (d *Duration) Snapshot() DurationSnapshot {
	return DurationSnapshot{Count: d.Count.Load(), Nanos: d.Nanos.Load()}
}

// ObserveBatch counts one run of the given rows. Runs of more than maxStatBatch
// rows are counted as such a run.
func (s *Stats) ObserveBatch(rows int, took time.Duration) {
	s.batches[min(max(rows, 0), maxStatBatch)].Add(took)
}

// BatchStat says what the runs of one size took.
type BatchStat struct {
	Rows int
	Runs DurationSnapshot
}

// Batches yields the sizes that have run, ascending.
func (s *Stats) Batches() iter.Seq[BatchStat] {
	return func(yield func(BatchStat) bool) {
		for rows := range s.batches {
			stat := BatchStat{rows, s.batches[rows].Snapshot()}
			if stat.Runs.Count > 0 && !yield(stat) {
				return
			}
		}
	}
}
