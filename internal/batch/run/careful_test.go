package run

import (
	"context"
	"strings"
	"testing"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/repo"
)

// kills has numbers end the process that runs them: its claim is nobody's any more, and
// it does not come to say so.
func (b *bench) kills(numbers ...float32) (deaths *int) {
	deaths = new(int)
	b.model.deadly = map[float32]bool{}
	for _, x := range numbers {
		b.model.deadly[x] = true
	}
	b.model.kill = func() {
		b.mu.Lock()
		*deaths++
		b.mu.Unlock()
		err := b.store.Do(context.Background(), repo.Scope{Tenant: tenant}, func(ctx context.Context, tx *repo.Tx) error {
			_, err := job.Batches.Update(ctx, tx, id, func(now *job.Batch) error {
				for i := range now.Chunks {
					if now.Chunks[i].Taken {
						now.Chunks[i].Fence++
						now.Chunks[i].Until = tx.Now()
					}
				}
				return nil
			})
			return err
		})
		if err != nil {
			b.t.Error(err)
		}
	}
	return deaths
}

// A row that ends the process fails alone, after a bounded number of deaths; the others
// have the answers that they have without it.
func TestDeadlyRows(t *testing.T) {
	for _, same := range []bool{false, true} {
		want := newBench(t, ingest.JSONL, ingest.JSONL, 100)
		want.model.same = same
		quiet := want.content(want.finish(1))
		b := newBench(t, ingest.JSONL, ingest.JSONL, 100)
		b.model.same = same
		deaths := b.kills(17, 64)
		found := b.finish(1)
		if found.Status != job.Completed || found.Counts.Failed != want.find().Counts.Failed+2 || *deaths > 2*(deathsBefore+3) {
			t.Fatalf("%s, %+v, %d deaths", found.Status, found.Counts, *deaths)
		}
		crashed := map[int64]bool{}
		for _, e := range found.Errors {
			if e.Code == CodeCrashed {
				crashed[e.Index] = true
			}
		}
		if len(crashed) != 2 || !crashed[17] || !crashed[64] {
			t.Errorf("%v crashed", crashed)
		}
		before, after := strings.Split(quiet, "\n"), strings.Split(b.content(found), "\n")
		for i := range before {
			if i != 17 && i != 64 && before[i] != after[i] {
				t.Errorf("row %d: %s, was %s", i, after[i], before[i])
			}
		}
		b.tidy(found)
		at := *deaths
		if err := b.store.Do(t.Context(), repo.Scope{Tenant: tenant}, func(ctx context.Context, tx *repo.Tx) error {
			_, err := job.Update(ctx, tx, id, b.worker.cfg.Job, func(now *job.Batch) error { return now.Retry(tx.Now(), b.worker.cfg.Job.Timing) })
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if again := b.finish(1); again.Counts != found.Counts || *deaths != at {
			t.Errorf("a retry runs them again: %+v, %d deaths", again.Counts, *deaths-at)
		}
	}
}

const deathsBefore = 3 // as package job has it

// A version that every row kills ends the batch, with what there is.
func TestDeadlyModel(t *testing.T) {
	b := newBench(t, ingest.JSONL, ingest.JSONL, 60)
	var all []float32
	for i := range 60 {
		all = append(all, float32(i))
	}
	deaths := b.kills(append(all, poison)...)
	found := b.finish(1)
	if found.Status != job.Failed || found.Failure == nil || found.Failure.Code != CodeCrashed || *deaths > 40 { // several at a time are one of a process
		t.Errorf("%s, %+v, %d deaths", found.Status, found.Failure, *deaths)
	}
	t.Log(*deaths, "deaths")
}
