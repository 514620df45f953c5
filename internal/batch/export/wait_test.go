package export

import (
	"testing"
	"time"

	"sluice/internal/platform/fault"
)

// What is full, or not there, fails no export that was accepted for an hour: it waits, says so,
// and goes on once it can; behind that hour its attempts count.
func TestWhatIsFullIsWaitedFor(t *testing.T) {
	full := fault.New(fault.Unavailable, "the object store is full").WithCode("storage_full")
	began := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	now := began
	e := &Export{Status: Queued}
	e.CreatedAt = began
	attempt := func(why error) {
		t.Helper()
		if err := e.Take(now, time.Hour); err != nil {
			t.Fatal(err)
		}
		if e.Status == Failed {
			return
		}
		if err := e.Stop(e.Attempt, why, false, now, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for e.Attempt < 3*maxTries {
		attempt(full)
		if e.Status != Queued || e.Tries != 0 || e.Waits == nil || e.Waits.Since != began || e.After.Sub(now) > time.Second<<longest || e.Due != e.After {
			t.Fatalf("attempt %d: %+v", e.Attempt, e)
		}
		now = e.After
	}
	attempt(fault.New(fault.Unavailable, "the store is away").WithCode("store_unavailable"))
	if e.Waits.Code != "store_unavailable" || e.Waits.Since != began {
		t.Errorf("%+v", e.Waits)
	}
	now = e.After
	if err := e.Take(now, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := e.Advance(e.Attempt, Progress{Scanned: 1}, nil, now); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(e.Attempt, full, false, now, time.Hour); err != nil {
		t.Fatal(err)
	}
	if wait := e.After.Sub(now); wait != time.Second<<slowest {
		t.Errorf("what fills the disk is tried again after %s", wait)
	}
	for now = began.Add(patience); e.Status == Queued; now = e.After {
		if e.Tries > maxTries {
			t.Fatal("it waits for ever")
		}
		if e.After.After(now) {
			now = e.After
		}
		attempt(full)
	}
	if e.Status != Failed || e.Failure.Code != "storage_full" || e.Waits != nil {
		t.Errorf("%+v", e)
	}
}

// An hour of waiting begins with it, however long an export has run before, and ends with
// what it waited for.
func TestWaitingBeginsAnew(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	e := &Export{Status: Queued}
	e.CreatedAt = now.Add(-2 * patience)
	for _, tt := range []struct {
		code    string
		stopped bool
		waits   bool
	}{{"storage_full", false, true}, {"storage_full", true, false}, {"storage_full", false, true}, {"busy", false, false}} {
		if err := e.Take(now, time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := e.Stop(e.Attempt, fault.New(fault.Unavailable, "not now").WithCode(tt.code), tt.stopped, now, time.Hour); err != nil {
			t.Fatal(err)
		}
		if e.Status != Queued || (e.Waits != nil) != tt.waits || tt.waits && e.Waits.Since != now {
			t.Errorf("%s: %+v", tt.code, e)
		}
		now = now.Add(2 * patience)
	}
}
