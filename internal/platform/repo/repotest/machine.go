package repotest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Property 17: whatever is done, in whatever order, a driver and the store in
// memory answer alike.
func testSameAsMemory(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		f.drain(t)
		m := &machine{driver: f, model: f.model(t), scope: scope()}
		t.Repeat(map[string]func(*rapid.T){
			"unit":    m.unit,
			"inbox":   m.inbox,
			"lease":   m.lease,
			"later":   func(t *rapid.T) { f.clock.advance(time.Duration(rapid.IntRange(0, 40).Draw(t, "s")) * time.Second) },
			"purge":   func(t *rapid.T) { m.driver.purge(t, leases.Name); m.model.purge(t, leases.Name) },
			"history": m.history,
			"find": func(t *rapid.T) {
				f.finds(t, m.scope, m.model, spec.Query[thing]{Where: drawRule(t, 2), Order: drawnOrders.Draw(t, "order"), Deleted: drawnDeleted.Draw(t, "deleted"), Limit: rapid.IntRange(1, 5).Draw(t, "limit")})
			},
			"": m.sameRecords,
		})
		m.samePages(t)
		m.sameMessages(t)
	})
}

// machine does everything twice.
type machine struct {
	driver, model *fixture
	scope         repo.Scope
}

var (
	machineIDs = rapid.SampledFrom([]thingID{"a", "b", "c", "é'"})
	leaseIDs   = rapid.SampledFrom([]thingID{"l1", "l2"})
)

// both runs f on both stores as the same operation, and compares what it says
// and what becomes of it.
func (m *machine) both(t *rapid.T, what string, f func(*fixture, repo.Scope) (string, error)) {
	t.Helper()
	s := m.scope
	s.Operation = uuid.Must(uuid.NewV7())
	got, err := f(m.driver, s)
	want, wantErr := f(m.model, s)
	if got != want || verdict(err) != verdict(wantErr) {
		t.Fatalf("%s: %q, %v; in memory: %q, %v", what, got, err, want, wantErr)
	}
}

// verdict is what callers can tell errors apart by.
func verdict(err error) string {
	switch {
	case err == nil:
		return "fine"
	case errors.Is(err, errStop):
		return "stopped"
	}
	return fault.Of(err).Kind.String() + " " + fault.CodeOf(err)
}

// step is a part of a unit of work.
type step struct {
	what  string
	id    thingID
	value thing
	event bool
}

var steps = rapid.Custom(func(t *rapid.T) step {
	return step{rapid.SampledFrom([]string{"add", "add", "update", "update", "keep", "delete", "restore", "erase", "require", "get", "find", "publish", "fail", "part"}).Draw(t, "what"),
		machineIDs.Draw(t, "id"), drawnThings.Draw(t, "value"), rapid.Bool().Draw(t, "event")}
})

func (m *machine) unit(t *rapid.T) {
	todo := rapid.SliceOfN(steps, 1, 5).Draw(t, "steps")
	if !m.driver.features.MultiAggregate {
		for i := range todo {
			todo[i].id = todo[0].id
		}
	}
	m.both(t, "unit", func(f *fixture, s repo.Scope) (string, error) {
		said := ""
		err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
			said = ""
			for i, st := range todo {
				if st.what == "part" {
					// The rest is a part of the unit of work, which may fail alone.
					err := tx.Do(ctx, func(ctx context.Context, tx *repo.Tx) error { return run(ctx, tx, f, todo[i+1:], &said) })
					said += " part " + verdict(err)
					return nil
				}
				if err := run(ctx, tx, f, todo[i:i+1], &said); err != nil {
					return err
				}
			}
			return nil
		})
		return said, err
	})
}

// run does the steps and notes what they say.
func run(ctx context.Context, tx *repo.Tx, f *fixture, todo []step, said *string) error {
	for _, st := range todo {
		out, err := st.do(ctx, tx, f)
		*said += fmt.Sprintf("; %s %s: %s %s", st.what, st.id, out, verdict(err))
		// Some errors are taken notice of, others end the unit of work.
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (st *step) do(ctx context.Context, tx *repo.Tx, f *fixture) (string, error) {
	events := []aggregate.Event{}
	if st.event {
		events = append(events, changed{st.value.N})
	}
	change := func(a *thing) error {
		a.set(st.value)
		for _, e := range events {
			a.Record(e)
		}
		return nil
	}
	switch st.what {
	case "add":
		a := newThing(st.id, st.value)
		err := things.Add(ctx, tx, a)
		return describe(*a), err
	case "update":
		a, err := things.Update(ctx, tx, st.id, change)
		return describe(a), err
	case "keep":
		a, err := things.Update(ctx, tx, st.id, func(*thing) error { return nil })
		return describe(a), err
	case "delete":
		return "", things.Delete(ctx, tx, st.id, events...)
	case "restore":
		a, err := things.Restore(ctx, tx, st.id, events...)
		return describe(a), err
	case "erase":
		return "", things.Erase(ctx, tx, st.id)
	case "require":
		return "", things.Require(ctx, tx, st.id)
	case "get":
		a, err := things.Get(ctx, tx, st.id)
		return describe(a), err
	case "find":
		return st.find(ctx, tx, f)
	case "publish":
		return "", tx.Publish(repo.Message{Stream: repo.StreamAudit, Type: "audit.entry", Data: []byte(strconv.Quote(string(st.id)))})
	case "fail":
		return "", errStop
	}
	return "", nil
}

// find looks at what the unit of work sees of its own writes, where queries are
// prompt: otherwise what was committed just before may be missing.
func (st *step) find(ctx context.Context, tx *repo.Tx, f *fixture) (string, error) {
	if !f.features.PromptQueries || !f.features.AnyQuery {
		return "", nil
	}
	out := ""
	for a, err := range things.All(ctx, tx, spec.Query[thing]{Where: num.Ge(st.value.N), Order: name.Asc(), Limit: 2}) {
		if err != nil {
			return out, err
		}
		out += describe(a)
	}
	return out, nil
}

func describe(a thing) string {
	return fmt.Sprintf("%s v%d s%d %t %q %d", a.ID, a.Version, a.Sequence, a.Deleted(), a.Name, a.N)
}

func (m *machine) inbox(t *rapid.T) {
	message, id, fails := rapid.SampledFrom([]string{"evt_1", "evt_2"}).Draw(t, "message"), machineIDs.Draw(t, "id"), rapid.Bool().Draw(t, "fails")
	m.both(t, "inbox", func(f *fixture, s repo.Scope) (string, error) {
		err := f.store.Once(ctx, s, s.Tenant, message, time.Hour, func(ctx context.Context, tx *repo.Tx) error {
			if err := bump(ctx, tx, id); err != nil && !errors.Is(err, repo.ErrNotFound) {
				return err
			}
			if fails {
				return errStop
			}
			return nil
		})
		return "", err
	})
}

func (m *machine) lease(t *rapid.T) {
	id, add, lasts := leaseIDs.Draw(t, "id"), rapid.Bool().Draw(t, "add"), rapid.IntRange(-1, 30).Draw(t, "s")
	m.both(t, "lease", func(f *fixture, s repo.Scope) (string, error) {
		until := f.clock.Now().Add(time.Duration(lasts) * time.Second)
		if lasts < 0 {
			until = time.Time{}
		}
		var said string
		err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
			if add {
				return leases.Add(ctx, tx, &lease{Root: aggregate.Root[thingID]{ID: id}, Until: until})
			}
			a, err := leases.Update(ctx, tx, id, func(l *lease) error { l.N++; l.Until = until; l.Record(changed{l.N}); return nil })
			said = fmt.Sprint(a.Version, a.Sequence, a.N)
			return err
		})
		return said, err
	})
}

func (m *machine) history(t *rapid.T) {
	id, after, limit := machineIDs.Draw(t, "id"), rapid.Int64Range(0, 6).Draw(t, "after"), rapid.IntRange(1, 6).Draw(t, "limit")
	want, err := things.History(ctx, m.model.store.Read(m.scope), id, after, limit)
	must(t, err)
	got, err := things.History(ctx, m.driver.store.Read(m.scope), id, after, limit)
	must(t, err)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(repo.Message{}, "Keep")); diff != "" {
		t.Fatalf("the history of %s above %d, at most %d (-want +got):\n%s", id, after, limit, diff)
	}
}

// sameRecords compares every record, deleted and expired ones too.
func (m *machine) sameRecords(t *rapid.T) {
	for kind, all := range map[string][]thingID{things.Name: {"a", "b", "c", "é'"}, leases.Name: {"l1", "l2"}} {
		for _, id := range all {
			key := repo.Key{Tenant: m.scope.Tenant, Kind: kind, ID: string(id)}
			want, wantErr := m.model.driver.Get(ctx, key)
			got, err := m.driver.driver.Get(ctx, key)
			if verdict(err) != verdict(wantErr) {
				t.Fatalf("%s: %v; in memory: %v", id, err, wantErr)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s (-memory +driver):\n%s", id, diff)
			}
		}
	}
}

func (m *machine) samePages(t *rapid.T) {
	for _, order := range []spec.Order[thing]{{}, name.Desc(), num.Asc(), at.Desc()} {
		m.driver.finds(t, m.scope, m.model, spec.Query[thing]{Order: order, Limit: 2})
	}
	for which := range 3 {
		m.driver.finds(t, m.scope, m.model, spec.Query[thing]{Deleted: spec.Deleted(which)})
	}
}

// sameMessages compares the outboxes, aggregate by aggregate.
func (m *machine) sameMessages(t *rapid.T) {
	byAggregate := func(messages []repo.Message) map[repo.Key][]repo.Message {
		out := map[repo.Key][]repo.Message{}
		for _, a := range messages {
			if a.Tenant == m.scope.Tenant {
				out[a.Key] = append(out[a.Key], a)
			}
		}
		return out
	}
	want, got := byAggregate(m.model.drain(t)), byAggregate(m.driver.drain(t))
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(repo.Message{}, "Keep")); diff != "" {
		t.Fatalf("the outbox (-memory +driver):\n%s", diff)
	}
}
