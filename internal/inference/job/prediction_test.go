package job

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var timing = Timing{Lease: 30 * time.Second, Notice: time.Minute, Keep: time.Hour, Attempts: 3, Hold: 10 * time.Minute}

// Whatever happens to a prediction, in whatever order, from workers that are
// alive, slow or dead: it leaves a final state never, an outcome counts only from
// the latest attempt, and attempts are never more than allowed.
func TestEveryLifeEndsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		p := &Prediction{Model: "m"}
		if rapid.Bool().Draw(t, "deadline") {
			p.Deadline = now.Add(5 * time.Minute)
		}
		p.Accept(now, timing)
		if rapid.Bool().Draw(t, "parked") {
			p.Park()
		}
		var end *Prediction
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := *p
			fence := rapid.IntRange(1, 7).Draw(t, "fence")
			current := fence == p.Attempt && (p.Status == Running || p.Status == Cancelling)
			var err error
			switch rapid.SampledFrom([]string{"start", "extend", "succeed", "fail", "fail for good", "give back", "cancel", "remind", "let in", "postpone", "replay", "time"}).Draw(t, "action") {
			case "start":
				begun, _ := p.Start("w", "1", now, timing) // busy is an answer
				if begun && (p.Status != Running || p.Attempt != before.Attempt+1 || !before.Deadline.IsZero() && !now.Before(before.Deadline)) {
					t.Fatalf("began %+v of %+v", p, before)
				}
				if begun && before.Status == Running && now.Before(before.Due) {
					t.Fatal("taken from a worker that is alive")
				}
			case "extend":
				_, err = p.Extend(fence, now, timing)
			case "succeed":
				err = p.Succeed(fence, Payload{Inline: []byte("1")}, "1", "d", Metrics{}, now, timing)
			case "fail":
				err = p.Fail(fence, Failure{Code: "x", Retryable: true}, time.Second, now, timing)
			case "fail for good":
				err = p.Fail(fence, Failure{Code: "x"}, time.Second, now, timing)
			case "give back":
				err = p.GiveBack(fence, now, timing)
			case "cancel":
				p.Cancel(now, timing)
			case "postpone":
				p.Postpone(unavailable, now, timing)
				if p.Attempt != before.Attempt || !p.Status.Final() && p.Due.After(now.Add(max(timing.Notice, timing.Lease))) {
					t.Fatalf("postponed %+v to %+v", before, p)
				}
			case "replay":
				if got := p.Replay(now, timing); (got == nil) != before.Dead() {
					t.Fatalf("replayed %+v: %v", before, got)
				}
				if before.Dead() {
					if p.Status != Queued || p.used() != 0 || p.Attempt != before.Attempt || p.Dead() || !p.Keep.IsZero() {
						t.Fatalf("replayed as %+v", p)
					}
					end = nil // of its first life
				}
			case "let in":
				if p.letIn(now, timing) && (before.Waits == "" || p.Waits != "" || p.Status != Queued) {
					t.Fatalf("let in %+v", before)
				}
			case "remind":
				if p.Remind(now, timing) && now.Before(before.Due) {
					t.Fatal("reminded too early")
				}
			default:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 31 * time.Second, 10 * time.Minute}).Draw(t, "by"))
			}
			if errors.Is(err, errStale) == current && err != nil {
				t.Fatalf("fence %d of %+v: %v", fence, before, err)
			}
			if end != nil {
				if p.Status != end.Status || p.Attempt != end.Attempt || string(p.Output.Inline) != string(end.Output.Inline) || !p.CompletedAt.Equal(end.CompletedAt) {
					t.Fatalf("final %+v became %+v", end, p)
				}
				continue
			}
			if !p.Keep.IsZero() && !p.Status.Final() {
				t.Fatalf("forgotten before it has ended: %+v", p)
			}
			if p.used() < 0 || p.used() > timing.Attempts || p.Attempt < before.Attempt {
				t.Fatalf("%d attempts, fence %d", p.used(), p.Attempt)
			}
			if p.Status == Succeeded && (before.Status != Running || p.Output.Inline == nil) {
				t.Fatalf("succeeded from %+v", before)
			}
			if p.Status.Final() {
				last := *p
				end = &last
				if p.CompletedAt.IsZero() || !p.Due.Equal(never) || p.Status == Failed && p.Failure == nil {
					t.Fatalf("ended as %+v", p)
				}
			}
		}
	})
}

// What is queued is never forgotten: it is due at a time, and reminds then.
func TestNothingIsForgotten(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &Prediction{}
	p.Accept(now, timing)
	for n := range timing.Attempts {
		if n == 0 && p.Remind(now, timing) {
			t.Fatal("reminded at once")
		}
		now = now.Add(2 * time.Minute)
		if !p.Remind(now, timing) {
			t.Fatal("a message that was lost is not sent again")
		}
		if begun, err := p.Start("w", "1", now, timing); !begun || err != nil || p.Attempt != n+1 {
			t.Fatalf("attempt %d: %t, %v", n+1, begun, err)
		}
		if begun, err := p.Start("v", "1", now, timing); begun || !errors.Is(err, errBusy) {
			t.Fatalf("two workers: %t, %v", begun, err)
		}
		now = now.Add(timing.Lease)
		if !p.Remind(now, timing) {
			t.Fatal("a dead worker is not noticed")
		}
		if p.Remind(now.Add(timing.Notice-1), timing) {
			t.Fatal("a dead worker is told of all the time")
		}
	}
	if begun, err := p.Start("w", "1", now, timing); begun || err != nil || p.Status != Failed || p.Failure.Code != "attempts_exhausted" {
		t.Errorf("%t, %v, %+v", begun, err, p)
	}
}

// A deadline passes whether or not there are workers.
func TestDeadlineWithoutWorkers(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &Prediction{Deadline: now.Add(10 * time.Second)}
	p.Accept(now, timing)
	if !p.Due.Equal(p.Deadline) {
		t.Errorf("due %s", p.Due)
	}
	if p.Remind(p.Deadline, timing) || p.Status != Expired {
		t.Errorf("%s after its deadline", p.Status)
	}
}

// What is wanted no more ends also where the worker that had it died, and no other
// has come for it since that was said; and one that waits is not cancelled, but has
// expired, from its deadline on.
func TestEndsWithoutWorkers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cancel bool
		want   Status
	}{{"deadline", false, Expired}, {"cancelled", true, Cancelled}} {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		p := &Prediction{Deadline: now.Add(time.Second)}
		p.Accept(now, timing)
		if begun, err := p.Start("w", "1", now, timing); !begun || err != nil {
			t.Fatal(begun, err)
		}
		if tc.cancel {
			p.Cancel(now, timing)
		}
		now = now.Add(timing.Lease)
		if !p.Remind(now, timing) || p.Status.Final() {
			t.Fatalf("%s: whoever might come was not told first: %+v", tc.name, p)
		}
		if now = now.Add(timing.Notice); p.Remind(now, timing) || p.Status != tc.want || !p.CompletedAt.Equal(now) {
			t.Errorf("%s: %+v", tc.name, p)
		}
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &Prediction{Deadline: now.Add(time.Second)}
	p.Accept(now, timing)
	if p.Overdue(now) || !p.Overdue(p.Deadline) {
		t.Error("overdue is what its deadline has passed")
	}
	if p.Cancel(p.Deadline, timing); p.Status != Expired || !p.StartedAt.IsZero() {
		t.Errorf("cancelled behind its deadline: %+v", p)
	}
}
