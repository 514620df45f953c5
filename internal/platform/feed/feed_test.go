package feed

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/fault"
)

func check(t *testing.T, got []*Event, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, words(got)); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

func after(epoch string, seq uint64) Start { return Start{After: Cursor{epoch, seq}} }

func TestStarts(t *testing.T) {
	m := newMemory()
	m.add("a", "b", "c", "d")
	m.expire(1)
	h := newTestHub(t, m, Config{})
	check(t, collect(t, subscribe(t, h, Request{Start: Start{Oldest: true}}), 3), "2 b", "3 c", "4 d")
	check(t, collect(t, subscribe(t, h, Request{Start: after("e1", 3)}), 1), "4 d")
	check(t, collect(t, subscribe(t, h, Request{Start: after("e1", 0)}), 4), "gap e1-0..e1-1 expired", "2 b", "3 c", "4 d")
	check(t, collect(t, subscribe(t, h, Request{Start: after("e0", 3)}), 4), "gap e0-3..e1-1 epoch_changed", "2 b", "3 c", "4 d")
	now := subscribe(t, h, Request{})
	ahead := subscribe(t, h, Request{Start: after("e1", 9)})
	if now.From() != (Cursor{"e1", 4}) {
		t.Errorf("now is %s", now.From())
	}
	m.add("e")
	check(t, collect(t, now, 1), "5 e")
	check(t, collect(t, ahead, 2), "gap e1-9..e1-4 truncated", "5 e")
	for _, c := range []Cursor{{"e1", 0}, {"e0", 3}, {"e1", 9}} {
		_, err := h.Subscribe(t.Context(), Request{Filter: Filter{Tenant: "t"}, Start: Start{After: c}, Strict: true})
		if !fault.Is(err, fault.Gone) || fault.CodeOf(err) != "cursor_lost" {
			t.Errorf("strict after %s: %v", c, err)
		}
	}
}

func TestFiltersShareOneReader(t *testing.T) {
	m := newMemory()
	h := newTestHub(t, m, Config{})
	some := subscribe(t, h, Request{Filter: Filter{Types: []string{"b"}}})
	other := subscribe(t, h, Request{Filter: Filter{Types: []string{"a", "c"}}})
	stranger := subscribe(t, h, Request{Filter: Filter{Tenant: "u"}})
	m.add("a", "b", "c")
	check(t, collect(t, some, 1), "2 b")
	check(t, collect(t, other, 2), "1 a", "3 c")
	if batch, err := stranger.Next(t.Context(), 20*time.Millisecond); len(batch) > 0 || err != nil {
		t.Errorf("another tenant got %v, %v", words(batch), err)
	}
	if m.reads != 2 {
		t.Errorf("%d reads for two tenants", m.reads)
	}
}

// A consumer whose filter takes little is not behind because of what others get.
func TestRareMatchesAreNotBehind(t *testing.T) {
	m := newMemory()
	h := newTestHub(t, m, Config{RingEvents: 4})
	s := subscribe(t, h, Request{Filter: Filter{Types: []string{"rare"}}, Policy: Disconnect})
	busy := subscribe(t, h, Request{})
	if batch, err := s.Next(t.Context(), time.Millisecond); batch != nil || err != nil {
		t.Fatal(batch, err)
	}
	for range 50 {
		m.add("often")
		collect(t, busy, 1)
	}
	m.add("rare")
	check(t, collect(t, s, 1), "51 rare")
}

func TestPoliciesOfASlowConsumer(t *testing.T) {
	for policy, want := range map[Policy][]string{
		Spill:      {"1 a", "2 a", "3 b", "4 a", "5 b", "6 a"},
		DropOldest: {"1 a", "gap e1-1..e1-4 slow_consumer", "5 b", "6 a"},
		Conflate:   {"1 a", "5 b", "6 a"},
		Disconnect: {"1 a"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			m := newMemory()
			h := newTestHub(t, m, Config{RingEvents: 2})
			s := subscribe(t, h, Request{Policy: policy})
			m.add("a")
			got := collect(t, s, 1)
			if batch, _ := s.Next(t.Context(), time.Millisecond); len(batch) > 0 {
				t.Fatal("more than there is")
			}
			m.add("a", "b", "a", "b", "a")
			fast := subscribe(t, h, Request{Start: after("e1", 4)})
			collect(t, fast, 2) // the ring has all now
			for {
				batch, err := s.Next(t.Context(), 50*time.Millisecond)
				got = append(got, batch...)
				if policy == Disconnect && !errors.Is(err, ErrSlow) {
					t.Errorf("ended with %v", err)
				}
				if len(batch) == 0 {
					break
				}
			}
			check(t, got, want...)
		})
	}
}

func TestSourceThatWasMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.add("a", "b")
		h := newTestHub(t, m, Config{})
		s := subscribe(t, h, Request{Start: Start{Oldest: true}})
		collect(t, s, 2)
		m.change(func() { m.epoch, m.first, m.events = "e2", 1, nil })
		m.add("x", "y", "z")
		check(t, collect(t, s, 4), "gap e1-2..e2-0 epoch_changed", "1 x", "2 y", "3 z")
		check(t, collect(t, subscribe(t, h, Request{Start: after("e2", 2)}), 1), "3 z")
		h.Close()
	})
}

// A client that knows the new epoch before the pump does is not told nonsense.
func TestCursorOfAnEpochThatTheRingDoesNotKnowYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.add("a", "b")
		h := newTestHub(t, m, Config{Check: time.Hour})
		subscribe(t, h, Request{})
		synctest.Wait()
		m.change(func() { m.epoch, m.first, m.events = "e2", 1, nil })
		m.add("x", "y", "z")
		check(t, collect(t, subscribe(t, h, Request{Start: after("e2", 2)}), 1), "3 z")
		h.Close()
	})
}

func TestSourceThatLostItsTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.add("a", "b", "c")
		h := newTestHub(t, m, Config{})
		s := subscribe(t, h, Request{Start: Start{Oldest: true}})
		collect(t, s, 3)
		m.change(func() { m.events = m.events[:1] })
		check(t, collect(t, s, 1), "gap e1-3..e1-1 truncated")
		m.add("again")
		check(t, collect(t, s, 1), "2 again")
		h.Close()
	})
}

// What expires while the reader is away is a gap; what expires behind the back
// of a quiet reader is none.
func TestRetentionAndQuietReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		h := newTestHub(t, m, Config{Check: time.Second})
		quiet := subscribe(t, h, Request{Filter: Filter{Kind: "other"}})
		synctest.Wait()
		for range 10 {
			m.add("a", "a", "a")
			time.Sleep(3 * time.Second)
		}
		m.expire(20)
		if batch, err := quiet.Next(t.Context(), 10*time.Second); len(batch) > 0 || err != nil {
			t.Errorf("a quiet reader got %v, %v", words(batch), err)
		}
		down := errors.New("away")
		m.change(func() { m.err = down })
		time.Sleep(10 * time.Second)
		for range 20 {
			m.add("b")
		}
		m.expire(25)
		m.change(func() { m.err = nil })
		check(t, collect(t, quiet, 1), "gap e1-0..e1-45 expired")
		h.Close()
	})
}

func TestSpillMeetsRetention(t *testing.T) {
	m := newMemory()
	for range 40 {
		m.add("a")
	}
	h := newTestHub(t, m, Config{RingEvents: 4, ChunkEvents: 8})
	s := subscribe(t, h, Request{Start: Start{Oldest: true}})
	got := collect(t, s, 8)
	m.expire(20)
	got = append(got, collect(t, s, 21)...)
	if w := words(got); w[7] != "8 a" || w[8] != "gap e1-8..e1-20 expired" || w[9] != "21 a" || w[len(w)-1] != "40 a" {
		t.Errorf("got %q", w)
	}
}

// Who waits for what will happen to a thing that is not there is told so.
func TestSubjectsAreKnown(t *testing.T) {
	absent := fault.New(fault.NotFound, "there is no such job").WithCode("job_not_found")
	m := newMemory()
	m.add("start")
	h := newTestHub(t, m, Config{Known: func(_ context.Context, kind, id string) error {
		switch {
		case kind == "job" && id == "a":
			return nil
		case id == "c":
			return fault.New(fault.Unavailable, "the store is away")
		}
		return absent
	}})
	subscribe(t, h, Request{Filter: Filter{Kind: "job", Subject: "a"}})
	subscribe(t, h, Request{Filter: Filter{Kind: "job"}})               // of all, of which there may be none yet
	subscribe(t, h, Request{Filter: Filter{Kind: "job", Subject: "c"}}) // who knows
	for _, start := range []Start{{Oldest: true}, after("e1", 0)} {     // what happened to it may still be kept
		subscribe(t, h, Request{Filter: Filter{Kind: "job", Subject: "b"}, Start: start})
	}
	if _, err := h.Subscribe(t.Context(), Request{Filter: Filter{Tenant: "t", Kind: "job", Subject: "b"}}); !errors.Is(err, absent) {
		t.Errorf("of an absent one: %v", err)
	}
}

func TestEndOfAFilter(t *testing.T) {
	m := newMemory()
	m.add("start", "done", "late")
	h := newTestHub(t, m, Config{})
	f := Filter{Tenant: "t", End: []string{"done"}}
	s := subscribe(t, h, Request{Filter: f, Start: Start{Oldest: true}})
	check(t, collect(t, s, 3), "1 start", "2 done", "2 end")
	if _, err := s.Next(t.Context(), time.Second); !errors.Is(err, ErrEnded) {
		t.Errorf("behind the end: %v", err)
	}
	if _, err := h.Subscribe(t.Context(), Request{Filter: f, Start: after("e1", 2)}); !errors.Is(err, ErrEnded) {
		t.Errorf("come back behind the end: %v", err)
	}
	check(t, collect(t, subscribe(t, h, Request{Filter: f, Start: after("e1", 1)}), 2), "2 done", "2 end")
	small := newTestHub(t, m, Config{RingEvents: 1, Lookback: 1}) // whose ring does not have the end any more
	if _, err := small.Subscribe(t.Context(), Request{Filter: f, Start: after("e1", 2)}); !errors.Is(err, ErrEnded) {
		t.Errorf("come back behind an end that only the source has: %v", err)
	}
}

func TestDrainAndLimits(t *testing.T) {
	m := newMemory()
	h := newTestHub(t, m, Config{MaxSubscriptions: 3, MaxPerTenant: 2, MaxChannels: 2})
	s := subscribe(t, h, Request{})
	subscribe(t, h, Request{}).Close()
	b := subscribe(t, h, Request{})
	refused := func(tenant, kind string, want fault.Kind, code string) {
		t.Helper()
		_, err := h.Subscribe(t.Context(), Request{Filter: Filter{Tenant: tenant, Kind: kind}})
		if !fault.Is(err, want) || fault.CodeOf(err) != code || fault.Of(err).RetryAfter == 0 {
			t.Errorf("%s %s: %v", tenant, kind, err)
		}
	}
	refused("t", "", fault.Exhausted, "streams_per_tenant")
	u := subscribe(t, h, Request{Filter: Filter{Tenant: "u"}})
	refused("v", "", fault.Unavailable, "streams_full")
	b.Close()
	refused("v", "", fault.Unavailable, "streams_full") // two channels are in use
	u.Close()
	subscribe(t, h, Request{Filter: Filter{Tenant: "v"}}).Close() // takes the unused one's place
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := h.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drained with a consumer: %v", err)
	}
	if _, err := s.Next(t.Context(), time.Hour); !errors.Is(err, ErrDraining) {
		t.Errorf("while draining: %v", err)
	}
	refused("t", "", fault.Unavailable, "draining")
	s.Close()
	if err := h.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCredentialExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, newMemory(), Config{})
		s := subscribe(t, h, Request{Expires: time.Now().Add(time.Minute)})
		began := time.Now()
		_, err := s.Next(t.Context(), time.Hour)
		if !errors.Is(err, ErrExpired) || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		h.Close()
	})
}

func TestUnusedChannelsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		h := newTestHub(t, m, Config{Check: time.Second, Linger: 5 * time.Second})
		subscribe(t, h, Request{}).Close()
		count := func() int { h.mu.Lock(); defer h.mu.Unlock(); return len(h.channels) }
		time.Sleep(4500 * time.Millisecond)
		if count() != 1 {
			t.Error("the channel ended at once")
		}
		time.Sleep(2 * time.Second)
		if count() != 0 {
			t.Error("the channel stays for ever")
		}
		h.Close()
	})
}

func TestSourceThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.err = fault.New(fault.Unavailable, "away")
		h := newTestHub(t, m, Config{RingEvents: 1, Lookback: 1})
		if _, err := h.Subscribe(t.Context(), Request{Filter: Filter{Tenant: "t"}}); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%v", err)
		}
		m.change(func() { m.err = nil })
		m.add("a", "b", "c")
		s := subscribe(t, h, Request{Start: Start{Oldest: true}})
		m.change(func() { m.err = fault.New(fault.Unavailable, "away") })
		if batch, err := s.Next(t.Context(), time.Second); len(batch) > 0 || err != nil {
			t.Errorf("%v, %v", batch, err)
		}
		m.change(func() { m.err = nil })
		check(t, collect(t, s, 3), "1 a", "2 b", "3 c")
		h.Close()
	})
}

// A reader that was overtaken by the retention while it read, and noticed
// nothing, is found out at the next look.
func TestReaderThatWasOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		h := newTestHub(t, m, Config{})
		s := subscribe(t, h, Request{})
		m.add("a")
		collect(t, s, 1)
		m.change(func() { // in one step: b is gone before anybody reads it
			m.events = append(m.events, nil, nil)
			m.first, m.events = 4, nil
		})
		m.add("c")
		check(t, collect(t, s, 1), "4 c")
		check(t, collect(t, s, 1), "gap e1-0..e1-4 expired")
		m.add("d")
		check(t, collect(t, s, 1), "5 d")
		h.Close()
	})
}

// A reader that had to begin anew behind what expired, none of which was for it,
// is up to date: its consumers are woken at once by what comes.
func TestQuietReaderBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		h := newTestHub(t, m, Config{Check: time.Second})
		s := subscribe(t, h, Request{Filter: Filter{Kind: "job"}})
		u := subscribe(t, h, Request{Filter: Filter{Tenant: "u", Kind: "job"}})
		m.add("a", "b", "c")
		collect(t, s, 3)
		time.Sleep(5 * time.Second) // two looks: u has missed nothing
		m.expire(3)
		m.change(func() { m.err = errors.New("away") })
		time.Sleep(time.Second)
		m.change(func() { m.err = nil })
		time.Sleep(2 * time.Second)
		if batch, err := u.Next(t.Context(), time.Second); len(batch) > 0 || err != nil {
			t.Fatal(words(batch), err)
		}
		time.AfterFunc(time.Second, func() {
			m.change(func() {
				m.events = append(m.events, &Event{Cursor: Cursor{"e1", 4}, Type: "mine", Tenant: "u", Kind: "job"})
			})
		})
		began := time.Now()
		check(t, collect(t, u, 1), "4 mine")
		if took := time.Since(began); took > time.Second {
			t.Errorf("woken after %s", took)
		}
		h.Close()
	})
}

// A consumer that read the source to its end, and found nothing, gets the very
// next event.
func TestSpillThatFindsNothing(t *testing.T) {
	m := newMemory()
	m.add("often", "often", "often", "often")
	h := newTestHub(t, m, Config{RingEvents: 1, Lookback: 1})
	s := subscribe(t, h, Request{Filter: Filter{Types: []string{"rare"}}, Start: Start{Oldest: true}})
	if batch, err := s.Next(t.Context(), 50*time.Millisecond); len(batch) > 0 || err != nil {
		t.Fatal(words(batch), err)
	}
	m.add("rare")
	check(t, collect(t, s, 1), "5 rare")
}
