package webhook

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

var classes = []Class{None, BadStatus, Redirected, GoneForGood, Throttled, Timeout, Refused, Broken, NoSuchHost, TLS, Forbidden, Unsendable, Interrupted}

// Whatever happens to a delivery, in whatever order, from processes that are
// alive, slow or dead: a final state is left by a replay only, an outcome counts
// only from the latest attempt, attempts come no earlier and no more often than the
// schedule has them, and what is not final is due at a time that comes.
func TestEveryDeliveryEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		d := &Delivery{}
		d.accept(now)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := *d
			fence := rapid.IntRange(max(d.Attempt-1, 0), d.Attempt+1).Draw(t, "fence")
			current := fence == d.Attempt && d.Status == Sending
			action := rapid.SampledFrom([]string{"start", "start", "finish", "finish", "postpone", "cancel", "replay", "remind", "time", "time", "time"}).Draw(t, "action")
			switch action {
			case "start":
				begun, err := d.Start(now)
				if begun && (d.Attempt != before.Attempt+1 || before.Status == Pending && now.Before(before.Next) || d.tries() > len(schedule) || d.Attempt-d.Base > 2*len(schedule)) {
					t.Fatalf("began %+v of %+v", d, before)
				}
				if busy := before.Status == Sending && now.Before(before.Due); errors.Is(err, ErrBusy) != busy || busy && begun {
					t.Fatalf("busy %t: %t, %v", busy, begun, err)
				}
			case "finish":
				r := Result{Class: rapid.SampledFrom(classes).Draw(t, "class"), RetryAfter: rapid.SampledFrom([]time.Duration{0, time.Hour, 1000 * time.Hour}).Draw(t, "retry after")}
				err := d.Finish(fence, r, now, rapid.Float64Range(0, 1).Draw(t, "random"))
				if errors.Is(err, ErrStale) == current {
					t.Fatalf("fence %d of %+v: %v", fence, before, err)
				}
				if err != nil {
					break
				}
				if (d.Status == Delivered) != (r.Class == None) || r.Class == GoneForGood && d.Status != Failed {
					t.Fatalf("%+v became %+v", r, d)
				}
				if least := now.Add(schedule[min(max(d.tries(), 1), len(schedule)-1)]); d.Status == Pending && (d.Next.Before(least) || d.Next.After(now.Add(29*time.Hour))) {
					t.Fatalf("attempt %d is followed by one after %s", before.tries(), d.Next.Sub(now))
				}
			case "postpone":
				d.Postpone(now, now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Second, time.Hour}).Draw(t, "for")))
				if d.Attempt != before.Attempt || d.Next.Before(before.Next) {
					t.Fatalf("postponed %+v to %+v", before, d)
				}
			case "cancel":
				d.Cancel(now)
			case "replay":
				if err := d.Replay(now); (err == nil) != before.Status.Final() || err == nil && (d.Status != Pending || d.tries() != 0 || d.Next.After(now) || !d.Keep.IsZero()) {
					t.Fatalf("replayed %+v as %+v, %v", before, d, err)
				}
			case "remind":
				if d.Remind(now) && (now.Before(before.Due) || before.Status.Final()) {
					t.Fatal("reminded too early")
				}
			default:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 80 * time.Second, time.Hour, 30 * time.Hour}).Draw(t, "by"))
			}
			if before.Status.Final() && action != "replay" && (d.Status != before.Status || d.Attempt != before.Attempt || !d.CompletedAt.Equal(before.CompletedAt)) {
				t.Fatalf("final %+v became %+v", before, d)
			}
			if d.Status.Final() != d.Due.Equal(never) || d.Status.Final() != d.Keep.After(d.CompletedAt) || d.Due.Before(d.Next) {
				t.Fatalf("%s is due %s, kept until %s", d.Status, d.Due, d.Keep)
			}
			if len(d.Attempts) > logged {
				t.Fatalf("%d attempts are logged", len(d.Attempts))
			}
		}
	})
}

// The schedule is that of Standard Webhooks; jitter makes waits longer only.
func TestSchedule(t *testing.T) {
	for _, random := range []float64{0, .999} {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		d := &Delivery{}
		d.accept(now)
		var waits []time.Duration
		for !d.Status.Final() {
			waits = append(waits, d.Next.Sub(now))
			now = d.Next
			if begun, err := d.Start(now); !begun || err != nil {
				t.Fatalf("%t, %v", begun, err)
			}
			if err := d.Finish(d.Attempt, Result{Class: Refused, Duration: time.Second}, now, random); err != nil {
				t.Fatal(err)
			}
		}
		if len(waits) != 10 || d.Status != Failed || len(d.Attempts) != 10 || d.Attempts[9].Error != Refused || d.Attempts[9].DurationMS != 1000 {
			t.Fatalf("%d attempts, %+v", len(waits), d)
		}
		for i, s := range []string{"0s", "5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"} {
			want, err := time.ParseDuration(s)
			if err != nil || waits[i] < want || waits[i] > want+want/5 || (random == 0) != (waits[i] == want) && want > 0 {
				t.Errorf("attempt %d comes after %s, want %s, %v", i+1, waits[i], want, err)
			}
		}
	}
}

// An attempt in whose middle our process ended is not the receiver's: the first that
// fails after some is followed by the next as soon as if it had been the first.
func TestInterruptionsCostTheReceiverNothing(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := &Delivery{}
	d.accept(now)
	for _, class := range []Class{Interrupted, "", Interrupted, BadStatus} { // "": it died
		if begun, err := d.Start(now); !begun || err != nil {
			t.Fatalf("%s: %t, %v", class, begun, err)
		}
		if class == "" {
			now = now.Add(lease)
			continue
		}
		if err := d.Finish(d.Attempt, Result{Class: class}, now, 0); err != nil {
			t.Fatal(err)
		}
		if wait := d.Next.Sub(now); wait != schedule[1] {
			t.Errorf("after %s comes the next in %s, want %s", class, wait, schedule[1])
		}
		now = d.Next
	}
	if d.Attempt != 4 || d.tries() != 1 {
		t.Errorf("%d attempts, %d of them the receiver's", d.Attempt, d.tries())
	}
}

// Processes that die in the middle of attempts use them up, and the log says so.
func TestDeadProcesses(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := &Delivery{}
	d.accept(now)
	for n := range len(schedule) {
		if begun, err := d.Start(now); !begun || err != nil || d.Attempt != n+1 {
			t.Fatalf("attempt %d: %t, %v", n+1, begun, err)
		}
		if d.Remind(now) {
			t.Fatal("taken for dead at once")
		}
		now = now.Add(lease)
		if !d.Remind(now) {
			t.Fatal("a dead process is not noticed")
		}
	}
	if begun, err := d.Start(now); begun || err != nil || d.Status != Failed || len(d.Attempts) != len(schedule) || d.Attempts[9].Error != Interrupted {
		t.Errorf("%t, %v, %+v", begun, err, d)
	}
	if err := (&Delivery{Status: Pending}).Replay(now); fault.CodeOf(err) != "delivery_pending" {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var h Health
	e := &Endpoint{}
	e.UpdatedAt = now.Add(-time.Hour)
	if h.Observe(Result{}, now) || h.HopelessSince(e, now, 0) {
		t.Error("what is well has changed")
	}
	if !h.Observe(Result{Class: Refused}, now) || h.Observe(Result{Class: Timeout}, now.Add(time.Minute)) || !h.PausedUntil.IsZero() {
		t.Errorf("%+v", h)
	}
	if !h.HopelessSince(e, now.Add(time.Hour), time.Hour) || h.HopelessSince(e, now.Add(time.Hour-1), time.Hour) {
		t.Error("hopeless at another time")
	}
	e.UpdatedAt = now.Add(30 * time.Minute) // its owner has repaired it, perhaps
	if h.HopelessSince(e, now.Add(time.Hour), time.Hour) {
		t.Error("a change does not begin the time anew")
	}
	for after, want := range map[time.Duration]time.Duration{0: DefaultPause, time.Hour: time.Hour, 1000 * time.Hour: maxRetryAfter} {
		h := Health{}
		if !h.Observe(Result{Class: Throttled, RetryAfter: after}, now) || !h.PausedUntil.Equal(now.Add(want)) {
			t.Errorf("after %s paused until %s", after, h.PausedUntil)
		}
		if h.Observe(Result{Class: Throttled, RetryAfter: time.Second}, now.Add(-time.Minute)); !h.PausedUntil.Equal(now.Add(want)) {
			t.Error("a pause became shorter")
		}
	}
	if !h.Observe(Result{}, now) || !h.FailingSince.IsZero() {
		t.Error("a success does not end it")
	}
}
