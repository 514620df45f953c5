package batcher

import (
	"testing"
	"time"
)

func TestMaxQueueDelay(t *testing.T) {
	x := &Explicit{MaxQueueDelay: 5 * millisecond}
	inBubble(t, Config{MaxRows: 4, SLO: 100 * millisecond, Explicit: x}, linear(4*millisecond, 0), func(b *bench) {
		r := b.online("a")[0]
		time.Sleep(2 * millisecond)
		b.online("b")
		b.wg.Wait()
		if r.timing.Queue != 5*millisecond || r.timing.Rows != 2 {
			t.Errorf("%+v, want a run of two after 5 ms", r.timing)
		}
		full := b.online("c", "d", "e", "f")[3]
		b.wg.Wait()
		if full.timing.Queue != 0 || full.timing.Rows != 4 {
			t.Errorf("%+v, want a full run without delay", full.timing)
		}
		b.wantRuns("a b", "c d e f")
	})
}

// A delay that is longer than the time there is must not refuse a request that
// nothing stands in the way of.
func TestMaxQueueDelayEndsInTimeForTheDeadline(t *testing.T) {
	const slo, run = 100 * millisecond, 4 * millisecond
	for _, c := range []struct {
		name     string
		x        Explicit
		deadline time.Duration // the client's; 0: none
		latest   time.Duration // for the answer
	}{
		{"delay of the SLO", Explicit{MaxQueueDelay: slo}, 0, slo},
		{"delay over the SLO", Explicit{MaxQueueDelay: 10 * slo}, 0, slo},
		{"delay and sizes", Explicit{MaxQueueDelay: 10 * slo, PreferredSizes: []int{3}}, 0, slo},
		{"client's deadline", Explicit{MaxQueueDelay: 50 * millisecond}, 20 * millisecond, 20 * millisecond},
		{"deadline sooner than a run", Explicit{MaxQueueDelay: 50 * millisecond}, 3 * millisecond, run},
		{"timeout in the queue", Explicit{MaxQueueDelay: 10 * slo, DefaultTimeout: 30 * millisecond}, 0, 30*millisecond + run},
		{"client's timeout", Explicit{MaxQueueDelay: 10 * slo, AllowTimeoutOverride: true}, 10 * millisecond, 10*millisecond + run},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Config{MaxRows: 4, SLO: slo, Explicit: &c.x}, linear(run, 0), func(b *bench) {
				task := &Task[string]{Value: "lone", Rows: 1}
				if c.deadline > 0 {
					task.Deadline = time.Now().Add(c.deadline)
				}
				r := b.send(b.t.Context(), task)
				b.wg.Wait()
				if r.err != nil || r.took > c.latest {
					t.Errorf("%v after %v, want an answer within %v", r.err, r.took, c.latest)
				}
				if early := min(c.latest-run-2*millisecond, c.x.MaxQueueDelay); r.timing.Queue < early {
					t.Errorf("it ran after %v, before it had to", r.timing.Queue)
				}
			})
		})
	}
}

// The head runs in time for its deadline, together with what has joined it.
func TestMaxQueueDelayGathersUntilTheDeadline(t *testing.T) {
	x := &Explicit{MaxQueueDelay: time.Second}
	inBubble(t, Config{MaxRows: 4, SLO: 100 * millisecond, Explicit: x}, linear(4*millisecond, millisecond), func(b *bench) {
		first := b.online("a")[0]
		time.Sleep(60 * millisecond)
		b.send(b.t.Context(), &Task[string]{Value: "other", Rows: 1, Bucket: 1, Deadline: time.Now().Add(20 * millisecond)})
		b.online("b")
		b.wantRuns("other", "a b")
		if first.err != nil || first.took > 100*millisecond {
			t.Errorf("%v after %v", first.err, first.took)
		}
	})
}

func TestPreferredSizes(t *testing.T) {
	x := &Explicit{MaxQueueDelay: 50 * millisecond, PreferredSizes: []int{4, 2}}
	inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond, Explicit: x}, linear(10*millisecond, 0), func(b *bench) {
		b.online("a", "b") // a preferred size: no delay
		b.online("c", "d", "e", "f", "g")
		last := b.send(b.t.Context(), &Task[string]{Value: "other", Rows: 1, Bucket: 1})
		b.wg.Wait()
		b.wantRuns("a b", "c d e f", "g", "other")
		if last.took != 70*millisecond {
			t.Errorf("the last row was answered after %v, want its delay and two runs", last.took)
		}
	})
}

func TestDefaultTimeoutReplacesTheSLO(t *testing.T) {
	x := &Explicit{DefaultTimeout: 25 * millisecond}
	inBubble(t, Config{MaxRows: 1, SLO: 5 * millisecond, Explicit: x}, linear(10*millisecond, 0), func(b *bench) {
		replies := b.online("a", "b", "c", "d")
		own := b.send(b.t.Context(), &Task[string]{Value: "own", Rows: 1, Deadline: time.Now().Add(millisecond)})
		b.wantRuns("a", "b", "c")
		wantCode(t, replies[3].err, CodeTimeout)
		wantCode(t, own.err, CodeTimeout)
		if own.took != 25*millisecond {
			t.Errorf("a deadline that may not override the timeout ended the wait after %v", own.took)
		}
	})
}

func TestAllowTimeoutOverride(t *testing.T) {
	for _, timeout := range []time.Duration{0, 25 * millisecond} {
		x := &Explicit{DefaultTimeout: timeout, AllowTimeoutOverride: true}
		inBubble(t, Config{MaxRows: 1, SLO: 5 * millisecond, Explicit: x}, linear(10*millisecond, 0), func(b *bench) {
			b.online("a")
			own := b.send(b.t.Context(), &Task[string]{Value: "own", Rows: 1, Deadline: time.Now().Add(millisecond)})
			b.wantRuns("a")
			wantCode(t, own.err, CodeTimeout)
			if own.took != millisecond {
				t.Errorf("default %v: expired after %v", timeout, own.took)
			}
		})
	}
}

func TestTimeoutDelay(t *testing.T) {
	x := &Explicit{DefaultTimeout: 5 * millisecond, TimeoutDelay: true}
	inBubble(t, Config{MaxRows: 1, SLO: 5 * millisecond, Explicit: x}, linear(10*millisecond, 0), func(b *bench) {
		b.online("a", "late1", "late2")
		time.Sleep(7 * millisecond)
		b.online("fresh")
		b.wantRuns("a", "fresh", "late1", "late2")
	})
}

func TestPreserveOrdering(t *testing.T) {
	x := &Explicit{PreserveOrdering: true}
	inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond, Executors: 4, Explicit: x}, linear(4*millisecond, 0), func(b *bench) {
		b.online("a")
		for i, name := range []string{"x1", "x2", "y1", "x3"} {
			b.send(b.t.Context(), &Task[string]{Value: name, Rows: 1, Bucket: uint64(i / 2 % 2)})
		}
		b.send(b.t.Context(), &Task[string]{Value: "hurry", Rows: 1, Bucket: 1, Deadline: time.Now().Add(50 * millisecond)})
		b.wantRuns("a", "x1 x2", "y1 x3 hurry")
	})
}

func TestMaxQueueSize(t *testing.T) {
	x := &Explicit{MaxQueueSize: 1}
	inBubble(t, Config{MaxRows: 1, SLO: time.Second, Explicit: x}, linear(4*millisecond, 0), func(b *bench) {
		wantCode(t, b.online("a", "b", "c")[2].err, CodeQueueFull)
	})
}
