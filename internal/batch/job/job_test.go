package job

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

var timing = Timing{}.withDefaults()

// history is a batch, workers that claim it, and clients that change their minds.
type history struct {
	b      Batch
	now    time.Time
	claims []Claim
}

func (h *history) check(t *rapid.T) {
	c := h.b.Counts
	for _, n := range []int64{c.Succeeded, c.Failed, c.Cancelled, c.Expired, c.Pending()} {
		if n < 0 || n > c.Total {
			t.Fatalf("rows that do not sum up: %+v", c)
		}
	}
	if h.b.Status.Final() && c.Pending() != 0 {
		t.Fatalf("%s with %d pending rows", h.b.Status, c.Pending())
	}
	succeeded, failed := int64(0), int64(0)
	for i := range h.b.Chunks {
		if h.b.Chunks[i].Tries < 0 {
			t.Fatalf("chunk %d has %d attempts", i, h.b.Chunks[i].Tries)
		}
		succeeded += int64(h.b.Chunks[i].succeeded())
		if h.b.Chunks[i].Done {
			failed += int64(h.b.Chunks[i].Failed)
		}
	}
	if succeeded != c.Succeeded || failed != c.Failed {
		t.Fatalf("the ledger has %d and %d rows, the counts are %+v", succeeded, failed, c)
	}
	if !h.b.Status.Final() && h.b.Status != Paused && h.b.Due.After(h.now.Add(max(timing.Lease, timing.Notice))) {
		t.Fatalf("%s, and nobody looks after it before %s", h.b.Status, h.b.Due.Sub(h.now))
	}
}

func (h *history) claim(t *rapid.T) {
	c := h.b.Claim(h.now, timing)
	if c.Step == Nothing {
		return
	}
	for _, o := range h.claims {
		if o == c {
			t.Fatalf("%+v was given twice", c)
		}
	}
	h.claims = append(h.claims, c)
}

// end ends a claim in one way or another. One that is not the latest changes nothing.
func (h *history) end(t *rapid.T, c Claim, how string) {
	before, stale := h.b.Counts, h.b.current(c) != nil
	var err error
	switch {
	case how == "give back":
		err = h.b.GiveBack(c, rapid.Bool().Draw(t, "innocent"), time.Second, h.now, timing)
	case how == "extend":
		err = h.b.Extend(c, h.now, timing)
	case how == "note" && c.Step == Compute:
		from := rapid.IntRange(0, 8).Draw(t, "from")
		err = h.b.Note(c, Rows{from, from + rapid.IntRange(1, 3).Draw(t, "rows")}, h.now, timing)
	case how == "fail":
		err = h.b.Fail(c, Failure{Code: "x"}, nil, h.now, timing)
	case c.Step == Plan:
		var chunks []Chunk
		for range rapid.IntRange(0, 5).Draw(t, "chunks") {
			chunks = append(chunks, Chunk{Rows: rapid.IntRange(1, 9).Draw(t, "rows")})
		}
		err = h.b.Planned(c, chunks, h.now, timing)
	case c.Step == Compute:
		o := Outcome{Result: Object{Key: "k"}}
		if !stale {
			rows := h.b.Chunks[c.Chunk].Rows
			if old := h.b.Chunks[c.Chunk]; old.Result.Key != "" {
				rows = old.Failed // no others are run again
			}
			o.Failed = rapid.IntRange(0, rows).Draw(t, "failed")
		}
		err = h.b.Computed(c, o, h.now, timing)
	default:
		err = h.b.Finish(c, &Object{}, h.now, timing)
	}
	if stale != errors.Is(err, ErrStale) || stale && before != h.b.Counts {
		t.Fatalf("%+v, stale %t: %v, %+v, %+v", c, stale, err, before, h.b.Counts)
	}
}

// Whatever workers and clients do, in whatever order and however late: rows sum up,
// no claim counts twice, and a batch that is looked after ends.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{now: time.Unix(1e9, 0)}
		h.b.MaxErrorRatio = rapid.SampledFrom([]float64{0, 0.3, 1}).Draw(rt, "ratio")
		h.b.Stop = rapid.Bool().Draw(rt, "stop")
		if rapid.Bool().Draw(rt, "limited") {
			h.b.Deadline = h.now.Add(time.Minute)
		}
		h.b.Accept(h.now, timing)
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			switch what := rapid.SampledFrom([]string{"claim", "claim", "look", "done", "done", "done", "give back", "extend", "note", "fail", "wait", "cancel", "pause", "resume", "retry", "remind"}).Draw(rt, "what"); what {
			case "claim":
				h.claim(rt)
			case "look":
				if c, _ := h.b.ClaimWithout(h.now, timing); c.Step == Plan || c.Step == Compute {
					rt.Fatalf("%+v without the model", c)
				} else if c.Step == Finalize {
					h.claims = append(h.claims, c)
				}
			case "wait":
				h.now = h.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second)
			case "cancel":
				h.b.Cancel(h.now, timing)
			case "pause":
				_ = h.b.Pause()
			case "resume":
				_ = h.b.Resume(h.now, timing)
			case "retry":
				_ = h.b.Retry(h.now, timing)
			case "remind":
				h.b.Remind(h.now, timing)
			default:
				if len(h.claims) > 0 {
					h.end(rt, rapid.SampledFrom(h.claims).Draw(rt, "of"), what)
				}
			}
			if h.b.Remind(h.now, timing); h.b.Status != Paused {
				h.check(rt)
			}
		}
		_ = h.b.Resume(h.now, timing)
		for range 200 {
			if h.now = h.now.Add(timing.Lease); h.b.Status.Final() {
				h.check(rt)
				return
			}
			if c := h.b.Claim(h.now, timing); c.Step != Nothing {
				h.end(rt, c, "done")
			}
			h.check(rt)
		}
		rt.Fatalf("it does not end: %+v", h.b)
	})
}

func planned(rows ...int) (*Batch, time.Time) {
	now := time.Unix(1e9, 0)
	b := &Batch{MaxErrorRatio: 1}
	b.Accept(now, timing)
	var chunks []Chunk
	for _, n := range rows {
		chunks = append(chunks, Chunk{Rows: n})
	}
	if err := b.Planned(b.Claim(now, timing), chunks, now, timing); err != nil {
		panic(err)
	}
	return b, now
}

// A chunk whose worker died is begun again, and what the dead one says then does
// not count.
func TestFence(t *testing.T) {
	b, now := planned(3)
	first := b.Claim(now, timing)
	if again := b.Claim(now.Add(timing.Lease-1), timing); again.Step != Nothing {
		t.Fatalf("%+v while the first is at it", again)
	}
	now = now.Add(timing.Lease)
	second := b.Claim(now, timing)
	if second.Step != Compute || second.Fence != first.Fence+1 {
		t.Fatalf("%+v after %+v", second, first)
	}
	if err := b.Computed(first, Outcome{}, now, timing); !errors.Is(err, ErrStale) || b.Counts.Succeeded != 0 {
		t.Fatalf("%v, %+v", err, b.Counts)
	}
	if err := b.Computed(second, Outcome{Result: Object{Key: "k"}}, now, timing); err != nil || b.Status != Finalizing || b.Ending != Completed {
		t.Fatalf("%v, %+v", err, b)
	}
}

// Only so many attempts are made at a chunk that workers die of.
func TestAttempts(t *testing.T) {
	b, now := planned(3)
	for range timing.Attempts {
		b.Claim(now, timing)
		now = now.Add(timing.Lease)
	}
	if c := b.Claim(now, timing); c.Step != Finalize || b.Ending != Failed || b.Failure.Code != "attempts_exhausted" || b.Counts.Cancelled != 3 {
		t.Fatalf("%+v, %+v", c, b)
	}
}

func TestRatio(t *testing.T) {
	b, now := planned(10, 10)
	b.MaxErrorRatio = 0.1
	_ = b.Computed(b.Claim(now, timing), Outcome{Result: Object{Key: "k"}, Failed: 2}, now, timing)
	if b.Status != Running { // two of twenty are not more than a tenth
		t.Fatalf("%+v", b)
	}
	_ = b.Computed(b.Claim(now, timing), Outcome{Result: Object{Key: "k"}, Failed: 1}, now, timing)
	if b.Ending != Failed || b.Failure.Code != "too_many_row_errors" {
		t.Fatalf("%+v", b)
	}
}

func TestVerbs(t *testing.T) {
	b, now := planned(3)
	if err := b.Retry(now, timing); fault.CodeOf(err) != "batch_state" {
		t.Error(err)
	}
	c := b.Claim(now, timing)
	if err := b.Pause(); err != nil || b.Claim(now, timing).Step != Nothing {
		t.Error(err)
	}
	if err := b.Resume(now, timing); err != nil {
		t.Error(err)
	}
	if err := b.Computed(c, Outcome{}, now, timing); !errors.Is(err, ErrStale) {
		t.Error(err)
	}
	b.Cancel(now, timing)
	if err := b.Pause(); b.Status != Cancelling || fault.CodeOf(err) != "batch_state" {
		t.Error(err)
	}
	if c := b.Claim(now, timing); b.Finish(c, &Object{}, now, timing) != nil || b.Status != Cancelled || b.Outcome() != "none_succeeded" {
		t.Errorf("%+v", b)
	}
}

// A retry that is cancelled before it comes to a chunk leaves what that had.
func TestCancelledRetry(t *testing.T) {
	b, now := planned(3, 3)
	for range 2 {
		_ = b.Computed(b.Claim(now, timing), Outcome{Result: Object{Key: "k"}, Failed: 2}, now, timing)
	}
	_ = b.Finish(b.Claim(now, timing), &Object{}, now, timing)
	if err := b.Retry(now, timing); err != nil {
		t.Fatal(err)
	}
	_ = b.Computed(b.Claim(now, timing), Outcome{Result: Object{Key: "k"}}, now, timing)
	b.Cancel(now, timing)
	if want := (Counts{Total: 6, Succeeded: 4, Failed: 2}); b.Counts != want {
		t.Errorf("%+v, want %+v", b.Counts, want)
	}
}

// A batch waits for its model, as long as that may take; then it can be retried where
// it has rows.
func TestAbsent(t *testing.T) {
	b, now := planned(3)
	if c, waits := b.ClaimWithout(now, timing); !waits || c.Step != Nothing || b.Absent.IsZero() {
		t.Fatalf("%+v, %t", c, waits)
	}
	first := b.Claim(now, timing)
	if !b.Absent.IsZero() {
		t.Error("a worker has had the model")
	}
	now = now.Add(timing.Absent)
	if err := b.Extend(first, now, timing); err != nil {
		t.Fatal(err)
	}
	if _, waits := b.ClaimWithout(now, timing); !waits || b.Status != Running || !b.Absent.IsZero() {
		t.Errorf("%s while a worker is at it", b.Status)
	}
	now = now.Add(timing.Lease)
	b.ClaimWithout(now, timing)
	now = now.Add(timing.Absent)
	if c, _ := b.ClaimWithout(now, timing); c.Step != Finalize || b.Failure.Code != "model_not_found" || !b.Failure.Retryable {
		t.Errorf("%+v, %+v", c, b.Failure)
	}
	unread := &Batch{}
	unread.Accept(now, timing)
	unread.ClaimWithout(now, timing)
	if c, _ := unread.ClaimWithout(now.Add(timing.Absent), timing); c.Step != Finalize || unread.Failure.Retryable {
		t.Errorf("%+v, %+v: Retry would refuse it", c, unread.Failure)
	}
}
