package run

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
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

// crashed are the rows that are said to have ended the process.
func crashed(b *job.Batch) (rows []int64) {
	for _, e := range b.Errors {
		if e.Code == CodeCrashed {
			rows = append(rows, e.Index)
		}
	}
	return rows
}

// A chunk that is under way beside the one that ends the process loses none of its rows,
// however often it dies with it.
func TestDeathsBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ingest.JSONL, ingest.JSONL, 60)
		b.kills(1)
		b.model.fail = func() error {
			time.Sleep(time.Second) // so that others come as far
			held, noted, now := 0, false, b.find()
			for i := range now.Chunks {
				if c := &now.Chunks[i]; c.Taken && b.store.Now().Before(c.Until) {
					held++
					noted = noted || c.Danger != nil && c.Danger.Running != job.Rows{}
				}
			}
			if noted && held > 1 {
				t.Errorf("%d chunks are under way, one with a note", held)
			}
			return nil
		}
		found := b.finish(2)
		if got := crashed(&found); found.Status != job.Completed || !slices.Equal(got, []int64{1}) {
			t.Errorf("%s, %+v: %v crashed", found.Status, found.Failure, got)
		}
	})
}

// lethal is a bucket that ends the process where results are put.
type lethal struct {
	Bucket
	kill func()
}

func (l lethal) Put(context.Context, string, io.Reader, blob.PutOptions) (blob.Info, error) {
	l.kill()
	return blob.Info{}, fault.New(fault.Canceled, "the process is dead")
}

// Who dies once all rows are answered dies of none of them.
func TestDeathsBehindTheRows(t *testing.T) {
	b := newBench(t, ingest.JSONL, ingest.JSONL, 30)
	deaths := b.kills()
	b.worker.bucket = lethal{b.bucket, b.model.kill}
	found := b.finish(1)
	if got := crashed(&found); found.Failure == nil || found.Failure.Code != "attempts_exhausted" || len(got) > 0 || *deaths <= deathsBefore {
		t.Errorf("%s, %+v: %v crashed, %d deaths", found.Status, found.Failure, got, *deaths)
	}
}
