package repotest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
)

var errStop = errors.New("stop")

// bump counts a thing up, and says so in an event.
func bump(ctx context.Context, tx *repo.Tx, id thingID) error {
	_, err := things.Update(ctx, tx, id, func(a *thing) error {
		a.N++
		a.Record(changed{a.N})
		return nil
	})
	return err
}

// Property 18: a unit of work that fails, panics or is cancelled, and a part of
// one that fails, leave nothing.
func testAllOrNothing(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		s := scope()
		f.add(t, s, newThing("a", thing{N: 1}))
		f.drain(t)
		how := rapid.SampledFrom([]string{"error", "panic", "cancel", "nested error", "nested panic"}).Draw(t, "how")
		steps := rapid.IntRange(1, 4).Draw(t, "steps")
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		after := false
		run := func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = errStop
				}
			}()
			return f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
				tx.AfterCommit(func() { after = true })
				work := func(ctx context.Context, tx *repo.Tx) error {
					for range steps {
						if err := bump(ctx, tx, "a"); err != nil {
							return err
						}
					}
					if err := tx.Publish(repo.Message{Stream: repo.StreamAudit, Type: "audit.entry", Data: []byte(`{}`)}); err != nil {
						return err
					}
					switch how {
					case "cancel":
						cancel()
						return nil
					case "panic", "nested panic":
						panic(errStop)
					}
					return errStop
				}
				if how == "nested error" || how == "nested panic" {
					func() {
						defer func() { _ = recover() }()
						_ = tx.Do(ctx, work)
					}()
					if a, err := things.Get(ctx, tx, "a"); err != nil || a.N != 1 {
						return fmt.Errorf("after the part failed there is %+v, %w", a, err)
					}
					return bump(ctx, tx, "a")
				}
				return work(ctx, tx)
			})
		}
		err := run()
		nested := how == "nested error" || how == "nested panic"
		if nested != (err == nil) || after != nested {
			t.Fatalf("%s: %v, after the commit: %t", how, err, after)
		}
		want, messages := int64(1), 0
		if nested {
			want, messages = 2, 1
		}
		if a, err := things.Get(context.Background(), f.store.Read(s), "a"); err != nil || a.N != want || a.Version != want || a.Sequence != want {
			t.Fatalf("%s: %+v, %v", how, a, err)
		}
		if got := f.drain(t); len(got) != messages {
			t.Fatalf("%s: %d messages, expected %d: %+v", how, len(got), messages, got)
		}
		if h, err := things.History(context.Background(), f.store.Read(s), "a", 0, 100); err != nil || int64(len(h)) != want {
			t.Fatalf("%s: the history is %+v, %v", how, h, err)
		}
	})
}

// Property 22: units of work at the same time never leave a half of one: what a
// thing is, how many events it had, and what its messages say agree.
func testHalvesNever(t *testing.T, f *fixture) {
	s := scope()
	f.drain(t)
	all := ids(3)
	for _, id := range all {
		f.add(t, s, newThing(id, thing{}))
	}
	var done atomic.Int64
	errs := together(8, func(i int) error {
		for n := range 12 {
			ctx, cancel := context.WithCancel(ctx)
			err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
				first, second := all[i%3], all[(i+1)%3]
				if err := bump(ctx, tx, first); err != nil {
					return err
				}
				if f.features.MultiAggregate {
					if err := bump(ctx, tx, second); err != nil {
						return err
					}
				}
				switch (i + n) % 4 {
				case 0:
					return errStop
				case 1:
					cancel()
				}
				return nil
			})
			cancel()
			if err == nil {
				done.Add(1)
			} else if !errors.Is(err, errStop) && !errors.Is(err, context.Canceled) {
				return err
			}
		}
		return nil
	})
	must(t, errors.Join(errs...))
	perUnit := int64(1)
	if f.features.MultiAggregate {
		perUnit = 2
	}
	var sum int64
	messages := f.drain(t)
	for _, id := range all {
		a, err := things.Get(ctx, f.store.Read(s), id)
		must(t, err)
		sum += a.N
		if a.Version != a.N+1 || a.Sequence != a.N+1 {
			t.Errorf("%s: %+v", id, a)
		}
		inOrder(t, messages, string(id), s.Tenant, a.Sequence)
	}
	if sum != done.Load()*perUnit {
		t.Errorf("the things were counted up %d times by %d units of work of %d each", sum, done.Load(), perUnit)
	}
}

// inOrder fails the test unless an aggregate's messages are numbered from 1 to
// last in order.
func inOrder(t rapid.TB, messages []repo.Message, id, tenant string, last int64) {
	t.Helper()
	var got []int64
	for _, m := range messages {
		if m.ID != "" && m.Key.ID == id && m.Tenant == tenant && m.Sequence > 0 {
			got = append(got, m.Sequence)
		}
	}
	for i, n := range got {
		if n != int64(i)+1 {
			t.Fatalf("the messages of %s came in the order %v", id, got)
		}
	}
	if int64(len(got)) != last {
		t.Fatalf("%s has %d messages, expected %d", id, len(got), last)
	}
}

func testNoLostUpdates(t *testing.T, f *fixture) {
	const workers, each = 8, 15
	s := scope()
	f.add(t, s, newThing("a", thing{}))
	errs := together(workers, func(int) error {
		for range each {
			if err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error { return bump(ctx, tx, "a") }); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, errors.Join(errs...))
	if a, err := things.Get(ctx, f.store.Read(s), "a"); err != nil || a.N != workers*each || a.Version != workers*each+1 {
		t.Errorf("counted %d times up: %+v, %v", workers*each, a, err)
	}
}

// Two units of work read two things and change one each: without Require both
// could go by what is past.
func testRequire(t *testing.T, f *fixture) {
	if !f.features.MultiAggregate {
		return // there is nothing that could be required beside the one that changes
	}
	for range 20 {
		s := scope()
		f.add(t, s, newThing("a", thing{N: 1}), newThing("b", thing{N: 1}))
		errs := together(2, func(i int) error {
			mine, other := thingID("ab"[i:i+1]), thingID("ab"[1-i:2-i])
			return f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
				if err := things.Require(ctx, tx, other); err != nil {
					return err
				}
				o, err := things.Get(ctx, tx, other)
				if err != nil || o.N == 0 {
					return errors.Join(err, errStop)
				}
				_, err = things.Update(ctx, tx, mine, func(a *thing) error { a.N = 0; return nil })
				return err
			})
		})
		if slices.Contains(errs, nil) == (errs[0] == nil && errs[1] == nil) {
			t.Fatalf("exactly one of the two has to go through: %v", errs)
		}
	}
	// That there is none can be required, too.
	s := scope()
	f.add(t, s, newThing("a", thing{}))
	runs := 0
	err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
		runs++
		if err := things.Require(ctx, tx, "none"); err != nil {
			return err
		}
		if _, err := things.Get(ctx, tx, "none"); err == nil {
			return errStop
		}
		f.add(t, s, newThing("none", thing{}))
		return bump(ctx, tx, "a")
	})
	if !errors.Is(err, errStop) || runs != 2 {
		t.Errorf("something appeared that must not: %v in %d runs", err, runs)
	}
}

func testInbox(t *testing.T, f *fixture) {
	s := scope()
	f.add(t, s, newThing("a", thing{}))
	message := "evt_" + uuid.NewString()
	once := func(consumer string) error {
		return f.store.Once(ctx, s, consumer, message, time.Hour, func(ctx context.Context, tx *repo.Tx) error { return bump(ctx, tx, "a") })
	}
	passed := 0
	for _, err := range together(8, func(int) error { return once("mailer") }) {
		switch {
		case err == nil:
			passed++
		case !errors.Is(err, repo.ErrProcessed):
			t.Errorf("handled a second time: %v", err)
		}
	}
	must(t, once("biller"))
	if a, err := things.Get(ctx, f.store.Read(s), "a"); err != nil || a.N != 2 || passed != 1 {
		t.Errorf("two consumers handled a message, one of them %d times: %+v, %v", passed, a, err)
	}
	failing := "evt_" + uuid.NewString()
	for range 2 {
		err := f.store.Once(ctx, s, "mailer", failing, time.Hour, func(context.Context, *repo.Tx) error { return errStop })
		if !errors.Is(err, errStop) {
			t.Errorf("what failed was noted as handled: %v", err)
		}
	}
	// What adds something, and is repeated, has been done already: that it is there
	// is no other's doing, be it of a kind that expires or not.
	for what, add := range map[string]func(ctx context.Context, tx *repo.Tx) error{
		"a thing": func(ctx context.Context, tx *repo.Tx) error { return things.Add(ctx, tx, newThing("added", thing{})) },
		"a lease": func(ctx context.Context, tx *repo.Tx) error {
			return leases.Add(ctx, tx, &lease{Root: aggregate.Root[thingID]{ID: "added"}, Until: f.clock.Now().Add(time.Hour)})
		},
	} {
		adding := "evt_" + uuid.NewString()
		must(t, f.store.Once(ctx, s, "adder", adding, time.Hour, add))
		if err := f.store.Once(ctx, s, "adder", adding, time.Hour, add); !errors.Is(err, repo.ErrProcessed) {
			t.Errorf("%s that was added by the same message: %v", what, err)
		}
		if err := f.store.Once(ctx, s, "adder", "evt_"+uuid.NewString(), time.Hour, add); !errors.Is(err, repo.ErrExists) {
			t.Errorf("%s that was added by another message: %v", what, err)
		}
	}
	alone := "evt_" + uuid.NewString()
	nothing := func(context.Context, *repo.Tx) error { return nil }
	must(t, f.store.Once(ctx, s, "mailer", alone, time.Hour, nothing))
	if err := f.store.Once(ctx, s, "mailer", alone, time.Hour, nothing); !errors.Is(err, repo.ErrProcessed) {
		t.Errorf("a mark without changes: %v", err)
	}
	f.purge(t, "")
	if err := once("mailer"); !errors.Is(err, repo.ErrProcessed) {
		t.Errorf("the mark was forgotten before its time: %v", err)
	}
	f.clock.advance(time.Hour)
	f.purge(t, "")
	must(t, f.store.Once(ctx, s, "mailer", alone, time.Hour, nothing))
}
