package job

import (
	"testing"
	"time"
)

// A batch whose results cannot be put together fails in the end, and can be retried when what
// was away is there again: nothing is computed twice for that.
func TestUnfinished(t *testing.T) {
	var b Batch
	now := time.Unix(1_800_000_000, 0)
	next := func(want Step) Claim {
		t.Helper()
		now = now.Add(time.Minute)
		c := b.Claim(now, timing)
		if c.Step != want {
			t.Fatalf("%s: step %d, expected %d", b.Status, c.Step, want)
		}
		return c
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b.Accept(now, timing)
	must(b.Planned(next(Plan), []Chunk{{Rows: 3}}, now, timing))
	b.Cause = "of a chunk"
	must(b.Computed(next(Compute), Outcome{Result: Object{Key: "part"}}, now, timing))
	if b.Cause != "" {
		t.Errorf("%q is no cause of what follows", b.Cause)
	}
	for range finalAttempts * timing.Attempts {
		must(b.GiveBack(next(Finalize), true, time.Second, now, timing)) // a store that is away costs no attempt
		b.Cause = "the part is gone"
		must(b.GiveBack(next(Finalize), false, time.Second, now, timing))
	}
	if next(Nothing); b.Status != Failed || b.Failure == nil || b.Failure.Code != "attempts_exhausted" || !b.Failure.Retryable || b.Results != nil || b.Counts != (Counts{Total: 3, Succeeded: 3}) {
		t.Fatalf("%s, %+v, %+v", b.Status, b.Failure, b.Counts)
	}
	must(b.Retry(now, timing))
	must(b.Finish(next(Finalize), &Object{Rows: 3}, now, timing))
	if b.Status != Completed || b.Failure != nil {
		t.Errorf("%s, %+v", b.Status, b.Failure)
	}
	if b.Retry(now, timing) == nil {
		t.Error("what has succeeded is run again")
	}
}

// A cancelled batch stays one, whatever becomes of its results.
func TestUnfinishedCancelled(t *testing.T) {
	var b Batch
	now := time.Unix(1_800_000_000, 0)
	b.Accept(now, timing)
	b.Cancel(now, timing)
	for b.Status == Cancelling {
		now = now.Add(time.Hour)
		b.Claim(now, timing)
	}
	if b.Status != Cancelled || b.Failure != nil {
		t.Errorf("%s, %+v", b.Status, b.Failure)
	}
}
