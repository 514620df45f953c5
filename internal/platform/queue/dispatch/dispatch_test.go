package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a source of prepared deliveries and the lease of each. It notes
// what is asked of it with the time since its start.
type script struct {
	began time.Time
	mu    sync.Mutex
	notes []string
	todo  []Leased
	errs  map[string][]error // answers to calls by name, in turn; then nil
}

func (s *script) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...)+" at "+time.Since(s.began).Truncate(time.Millisecond).String())
}

func (s *script) answer(call string) error {
	s.note("%s", call)
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.errs[call]
	if len(list) == 0 {
		return nil
	}
	s.errs[call] = list[1:]
	return list[0]
}

func (s *script) Next(ctx context.Context) (Leased, error) {
	s.mu.Lock()
	if list := s.errs["next"]; len(list) > 0 {
		s.errs["next"] = list[1:]
		s.mu.Unlock()
		return Leased{}, list[0]
	}
	if len(s.todo) > 0 {
		m := s.todo[0]
		m.Lease = s
		s.todo = s.todo[1:]
		s.mu.Unlock()
		return m, nil
	}
	s.mu.Unlock()
	<-ctx.Done()
	return Leased{}, ctx.Err()
}

func (s *script) Close()                       { s.note("close") }
func (s *script) Ack(context.Context) error    { return s.answer("ack") }
func (s *script) Extend(context.Context) error { return s.answer("extend") }
func (s *script) Retry(_ context.Context, d time.Duration) error {
	if d <= 0 {
		s.note("retry without delay")
	}
	return s.answer("retry")
}

// run runs scripts for the time, then stops, and returns the first's notes.
func run(t *testing.T, period time.Duration, c queue.Consumer, handle queue.Handler, scripts ...*script) []string {
	t.Helper()
	c.Name, c.Stream = "c", "S"
	c, err := c.Normal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := queue.NewMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	job := Job{Consumer: c, Handle: handle, Metrics: m.Consumer("c"), Log: slog.New(slog.DiscardHandler)}
	for _, s := range scripts {
		s.began = time.Now()
		job.Sources = append(job.Sources, s)
	}
	job.Bury = func(_ context.Context, d queue.DeadLetter) error { return scripts[0].answer("bury " + d.Code) }
	ctx, cancel := context.WithTimeout(t.Context(), period)
	defer cancel()
	Run(ctx, job)
	return scripts[0].notes
}

func delivery(attempt int) Leased {
	return Leased{Message: queue.Message{ID: "m", Subject: "s"}, Attempt: attempt}
}

var (
	away  = fault.New(fault.Unavailable, "away").WithCode("queue_unavailable")
	full  = fault.New(fault.Unavailable, "full").WithCode("queue_full")
	wrong = fault.New(fault.Invalid, "wrong")
)

// prefixes cuts the times off notes.
func prefixes(notes []string) (out []string) {
	for _, n := range notes {
		out = append(out, n[:strings.LastIndex(n, " at ")])
	}
	return out
}

func TestSettlement(t *testing.T) {
	for name, c := range map[string]struct {
		attempt int
		err     error
		errs    map[string][]error
		want    []string
	}{
		"success":                       {1, nil, nil, []string{"ack"}},
		"the ack is insisted on":        {1, nil, map[string][]error{"ack": {away, away}}, []string{"ack", "ack", "ack"}},
		"a lost lease is not":           {1, nil, map[string][]error{"ack": {LeaseLost()}}, []string{"ack"}},
		"passing failure":               {1, away, nil, []string{"retry"}},
		"unclassified failure":          {2, errors.New("x"), nil, []string{"retry"}},
		"conflict may pass":             {1, fault.New(fault.Conflict, "x"), nil, []string{"retry"}},
		"hopeless":                      {1, wrong, nil, []string{"bury invalid", "ack"}},
		"attempts used up":              {3, away, nil, []string{"bury queue_unavailable", "ack"}},
		"found with too many attempts":  {4, nil, nil, []string{"bury attempts_exhausted", "ack"}},
		"no room for the dead letter":   {1, wrong, map[string][]error{"bury invalid": {full}}, []string{"bury invalid", "retry"}},
		"burying is insisted on":        {1, wrong, map[string][]error{"bury invalid": {away}}, []string{"bury invalid", "bury invalid", "ack"}},
		"not removed after its burial":  {1, wrong, map[string][]error{"ack": {errors.New("x")}}, []string{"bury invalid", "ack"}},
		"a source that fails for while": {1, nil, map[string][]error{"next": {away, away, errors.New("x")}}, []string{"ack"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{todo: []Leased{delivery(c.attempt)}, errs: c.errs}
				ran := 0
				notes := run(t, time.Minute, queue.Consumer{MaxAttempts: 3}, func(context.Context, queue.Delivery) error { ran++; return c.err }, s)
				if got := prefixes(notes); !slices.Equal(got, append(c.want, "close")) {
					t.Errorf("asked of the queue: %q, want %q", notes, c.want)
				}
				if want := min(1, max(0, 4-c.attempt)); ran != want {
					t.Errorf("the handler ran %d times, want %d", ran, want)
				}
			})
		})
	}
}

// A handler that returns after its lease says nothing to the queue, and its
// context ended in time.
func TestNothingIsSentAfterTheLease(t *testing.T) {
	for _, result := range []error{nil, away, wrong} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{todo: []Leased{delivery(1)}}
			began := time.Now()
			notes := run(t, time.Minute, queue.Consumer{Lease: 10 * time.Second}, func(ctx context.Context, d queue.Delivery) error {
				<-ctx.Done()
				if took := time.Since(began); took != 9*time.Second || !errors.Is(context.Cause(ctx), queue.ErrLeaseLost) {
					t.Errorf("the context ended after %s with %v", took, context.Cause(ctx))
				}
				if err := d.Extend(context.Background()); fault.CodeOf(err) != "lease_lost" {
					t.Errorf("Extend: %v", err)
				}
				return result
			}, s)
			if len(notes) != 1 {
				t.Errorf("asked of the queue: %q", notes)
			}
		})
	}
}

func TestExtendMovesTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{todo: []Leased{delivery(1)}}
		notes := run(t, time.Minute, queue.Consumer{Lease: 10 * time.Second}, func(ctx context.Context, d queue.Delivery) error {
			for range 3 {
				time.Sleep(8 * time.Second)
				if err := d.Extend(ctx); err != nil {
					t.Errorf("Extend: %v", err)
				}
			}
			time.Sleep(8 * time.Second)
			return ctx.Err()
		}, s)
		if got := prefixes(notes); !slices.Equal(got, []string{"extend", "extend", "extend", "ack", "close"}) {
			t.Errorf("asked of the queue: %q", notes)
		}
	})
}

// A queue that says the lease is another's ends the handler at once; one that
// is away does not.
func TestExtendRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{todo: []Leased{delivery(1)}, errs: map[string][]error{"extend": {away, LeaseLost()}}}
		notes := run(t, time.Minute, queue.Consumer{}, func(ctx context.Context, d queue.Delivery) error {
			if err := d.Extend(ctx); !fault.Is(err, fault.Unavailable) || ctx.Err() != nil {
				t.Errorf("first: %v, context %v", err, ctx.Err())
			}
			if err := d.Extend(ctx); fault.CodeOf(err) != "lease_lost" || ctx.Err() == nil {
				t.Errorf("second: %v, context %v", err, ctx.Err())
			}
			return nil
		}, s)
		if got := prefixes(notes); !slices.Equal(got, []string{"extend", "extend", "close"}) {
			t.Errorf("asked of the queue: %q", notes)
		}
	})
}

// A delivery that waits for a free handler keeps its lease.
func TestWaitingForASlotKeepsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &script{todo: []Leased{delivery(1)}}, &script{todo: []Leased{delivery(1)}}
		handle := func(ctx context.Context, d queue.Delivery) error {
			for range 5 {
				time.Sleep(5 * time.Second)
				if err := d.Extend(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		run(t, 2*time.Minute, queue.Consumer{Concurrency: 1, Lease: 9 * time.Second}, handle, first, second)
		for _, s := range []*script{first, second} {
			if !slices.Contains(prefixes(s.notes), "ack") {
				t.Errorf("not handled: %q", s.notes)
			}
		}
	})
}

// When stopped: what waits for a slot goes back, what runs may finish until
// the drain time is over, and is then cancelled and goes back.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, waiting := &script{todo: []Leased{delivery(3)}}, &script{todo: []Leased{delivery(3)}}
		began := time.Now()
		handle := func(ctx context.Context, _ queue.Delivery) error {
			<-ctx.Done()
			return errors.New("interrupted")
		}
		// One of the two gets the slot; both must come back.
		run(t, time.Second, queue.Consumer{Concurrency: 1, MaxAttempts: 3, Drain: 4 * time.Second}, handle, running, waiting)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("stopped after %s, want 5s", took)
		}
		for _, s := range []*script{running, waiting} {
			if got := prefixes(s.notes); !slices.Equal(got, []string{"retry", "close"}) {
				t.Errorf("asked of the queue: %q", s.notes)
			}
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	m, err := queue.NewMetrics(nil)
	if err != nil {
		b.Fatal(err)
	}
	c, _ := queue.Consumer{Name: "c", Stream: "S"}.Normal()
	w := &worker{Job: Job{
		Consumer: c, Metrics: m.Consumer("c"), Log: slog.New(slog.DiscardHandler),
		Handle: func(context.Context, queue.Delivery) error { return nil },
	}, slots: make(chan struct{}, 1)}
	leased := delivery(1)
	leased.Lease = nothing{}
	b.ReportAllocs()
	for b.Loop() {
		w.handle(b.Context(), context.Background(), leased)
	}
}

type nothing struct{}

func (nothing) Ack(context.Context) error                  { return nil }
func (nothing) Extend(context.Context) error               { return nil }
func (nothing) Retry(context.Context, time.Duration) error { return nil }
