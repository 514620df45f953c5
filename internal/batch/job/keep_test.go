package job

import (
	"context"
	"testing"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// The results of a batch are its own until they expire; that they have is told for a day,
// and then the batch is forgotten.
func TestKeep(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{Now: func() time.Time { return now }})
	scope := repo.Scope{Tenant: "acme"}
	b := Batch{Status: Completed, Chunks: []Chunk{{Rows: 2, Failed: 1, Done: true, Result: Object{Key: "r"}}}, Counts: Counts{Total: 2, Succeeded: 1, Failed: 1}, Keep: now.Add(time.Hour)}
	b.ID = "batch_0190b5a0000070008000000000000001"
	key := Key("acme", b.ID)
	b.Input.Key = key
	if err := store.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error { return Batches.Add(ctx, tx, &b) }); err != nil {
		t.Fatal(err)
	}
	if owned, err := Owned(t.Context(), store, "acme", key); !owned || err != nil || b.Usable(now) != nil {
		t.Error("it is gone before its time", err)
	}
	now = b.Keep
	if owned, err := Owned(t.Context(), store, "acme", key); owned || err != nil {
		t.Error("the sweep does not remove what has expired", err)
	}
	found, err := Batches.Get(t.Context(), store.Read(scope), b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Usable(now); !fault.Is(err, fault.Gone) || fault.CodeOf(err) != "batch_expired" {
		t.Error(err)
	}
	if err := found.Retry(now, timing); !fault.Is(err, fault.Gone) || found.Status != Completed {
		t.Error("rows of a file that is gone would be run again", err)
	}
	now = b.Keep.Add(remembered)
	if _, err := Batches.Get(t.Context(), store.Read(scope), b.ID); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if !new(Batch).forgotten().IsZero() {
		t.Error("a batch that has not ended is forgotten")
	}
}

// What a batch waits for is shown since it does, and no longer than it does.
func TestWait(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	b := Batch{MaxErrorRatio: 1}
	b.Accept(now, timing)
	if err := b.Planned(b.Claim(now, timing), []Chunk{{Rows: 1}, {Rows: 1}}, now, timing); err != nil {
		t.Fatal(err)
	}
	for i, end := range []func(c Claim) error{
		func(c Claim) error { return b.Computed(c, Outcome{Result: Object{Key: "r"}}, now, timing) },
		func(Claim) error { return b.Pause() },
	} {
		first := b.Claim(now, timing)
		b.Wait("storage_full", "the disk is full", now)
		if err := b.GiveBack(first, true, time.Second, now, timing); err != nil || b.Waits == nil {
			t.Fatal(err)
		}
		since := now
		now = now.Add(2 * time.Second)
		c := b.Claim(now, timing)
		b.Wait("storage_full", "the disk is full", now)
		if *b.Waits != (Waiting{"storage_full", "the disk is full", since}) {
			t.Errorf("%+v", b.Waits)
		}
		if err := end(c); err != nil || b.Waits != nil {
			t.Errorf("%d: it waits on: %+v, %v", i, b.Waits, err)
		}
	}
}
