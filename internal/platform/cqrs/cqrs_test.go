package cqrs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

type noteID string

type note struct {
	aggregate.Root[noteID]
	Text string
}

type written struct{ Text string }

func (written) EventType() string { return "note.written" }

var notes = repo.Kind[noteID, note]{Name: "notes", Root: func(n *note) *aggregate.Root[noteID] { return &n.Root }}

const (
	writeNotes access.Permission = "notes:write"
	readNotes  access.Permission = "notes:read"
)

type writeNote struct {
	Returns[note]
	ID   noteID
	Text string
}

func (writeNote) CommandName() string         { return "notes.write" }
func (c writeNote) Target() (kind, id string) { return "notes", string(c.ID) }
func (c writeNote) Validate() error {
	if c.Text == "" {
		return fault.New(fault.Unprocessable, "text is empty").WithCode("text_empty")
	}
	return nil
}

type readNote struct {
	Returns[note]
	ID noteID
}

func (readNote) QueryName() string  { return "notes.read" }
func (q readNote) CacheKey() string { return string(q.ID) }

// bench is a bus over a store in memory, and what its outbox holds.
type bench struct {
	*Bus
	driver *memrepo.Driver
	store  *repo.Store
	reads  atomic.Int64 // times that the query's handler ran
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	b := &bench{driver: memrepo.New(memrepo.Config{})}
	b.store = repo.New(b.driver, repo.Config{})
	var err error
	if b.Bus, err = NewBus(b.store, cfg); err != nil {
		t.Fatal(err)
	}
	Handle(b.Bus, writeNotes, func(ctx context.Context, tx *repo.Tx, c writeNote) (note, error) {
		if ok, err := notes.Exists(ctx, tx, c.ID); err != nil {
			return note{}, err
		} else if ok {
			return notes.Update(ctx, tx, c.ID, func(n *note) error { n.Text = c.Text; n.Record(written{c.Text}); return nil })
		}
		n := note{Text: c.Text}
		n.ID = c.ID
		n.Record(written{c.Text})
		err := notes.Add(ctx, tx, &n)
		return n, err
	})
	HandleQuery(b.Bus, readNotes, func(ctx context.Context, from repo.Reading, q readNote) (note, error) {
		b.reads.Add(1)
		return notes.Get(ctx, from, q.ID)
	}, Cached(time.Minute, "notes"))
	return b
}

// eventData returns what the events in the outbox carry.
func (b *bench) eventData(t testing.TB) (data [][]byte) {
	t.Helper()
	messages, err := b.driver.Pending(context.Background(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Stream != repo.StreamAudit {
			data = append(data, m.Data)
		}
	}
	return data
}

func (b *bench) outbox(t testing.TB) (entries []audit.Entry, events []string) {
	t.Helper()
	messages, err := b.driver.Pending(context.Background(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Stream != repo.StreamAudit {
			events = append(events, m.Type)
			continue
		}
		e, err := audit.Decode(m.Data)
		if err != nil || e.ID != m.ID {
			t.Fatalf("%s: %v", m.Data, err)
		}
		entries = append(entries, e)
	}
	return entries, events
}

func as(ctx context.Context, tenant string, permissions ...access.Permission) context.Context {
	return access.With(ctx, &access.Principal{Tenant: tenant, Subject: "key_1", Permissions: access.SetOf(permissions...)})
}

func TestCommandIsAuditedInItsUnitOfWork(t *testing.T) {
	b := newBench(t, Config{AuditKey: []byte("secret"), Origin: func(context.Context) Origin { return Origin{Request: "r1", Correlation: "c 1"} }})
	ctx := as(t.Context(), "acme", writeNotes)
	n, err := Send(ctx, b.Bus, writeNote{ID: "n1", Text: "mail of jane@example.com"})
	if err != nil || n.Version != 1 || n.CreatedBy != "key_1" || n.Tenant != "acme" {
		t.Fatalf("%+v, %v", n, err)
	}
	entries, events := b.outbox(t)
	if len(entries) != 1 || !cmp.Equal(events, []string{"note.written"}) {
		t.Fatalf("audit %v, events %v", entries, events)
	}
	e := entries[0]
	if e.Outcome != audit.OK || e.Action != "notes.write" || e.Tenant != "acme" || e.Actor != "key_1" || e.Kind != "notes" || e.Resource != "n1" || e.Request != "r1" ||
		!strings.HasPrefix(e.Correlation, "sha256:") {
		t.Errorf("entry %+v", e)
	}
	if want := audit.Commit([]byte("secret"), b.eventData(t)...); e.Change != want {
		t.Errorf("the commitment is %s, want that to the events: %s", e.Change, want)
	}
}

func TestRefusalsAreAudited(t *testing.T) {
	b := newBench(t, Config{})
	for name, c := range map[string]struct {
		ctx     context.Context
		command writeNote
		kind    fault.Kind
		want    []string // outcome and code of the entry
	}{
		"nobody":   {t.Context(), writeNote{ID: "n", Text: "x"}, fault.Unauthenticated, nil},
		"no right": {as(t.Context(), "acme", readNotes), writeNote{ID: "n", Text: "x"}, fault.PermissionDenied, []string{"denied permission_missing n"}},
		"invalid":  {as(t.Context(), "acme", writeNotes), writeNote{ID: "a b"}, fault.Unprocessable, []string{"failed text_empty " + identifier("a b", 128)}},
		"bad id":   {as(t.Context(), "acme", writeNotes), writeNote{Text: "x"}, fault.Invalid, []string{"failed invalid_id "}},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := b.outbox(t)
			if _, err := Send(c.ctx, b.Bus, c.command); !fault.Is(err, c.kind) {
				t.Errorf("got %v", err)
			}
			entries, events := b.outbox(t)
			var got []string
			for _, e := range entries[len(before):] {
				got = append(got, fmt.Sprint(e.Outcome, " ", e.Code, " ", e.Resource))
			}
			if d := cmp.Diff(c.want, got); d != "" || len(events) != 0 {
				t.Error(d, events)
			}
		})
	}
	// Denied queries are denials, too; failed ones are nothing but failed.
	before, _ := b.outbox(t)
	if _, err := Ask(as(t.Context(), "acme", writeNotes), b.Bus, readNote{ID: "n"}); !fault.Is(err, fault.PermissionDenied) {
		t.Error(err)
	}
	if _, err := Ask(as(t.Context(), "acme", readNotes), b.Bus, readNote{ID: "n"}); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if entries, _ := b.outbox(t); len(entries) != len(before)+1 || entries[len(before)].Outcome != audit.Denied {
		t.Errorf("entries %v", entries[len(before):])
	}
}

// A refusal that cannot be audited stays one, and is counted.
func TestLostAuditIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	b := newBench(t, Config{Metrics: registry})
	if err := b.driver.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Send(as(t.Context(), "acme"), b.Bus, writeNote{ID: "n", Text: "x"}); !fault.Is(err, fault.PermissionDenied) {
		t.Error(err)
	}
	if n := testutil.ToFloat64(b.metrics.unaudited); n != 1 {
		t.Errorf("%v lost entries counted", n)
	}
	if n := testutil.ToFloat64(b.metrics.calls.WithLabelValues("notes.write", "permission_denied")); n != 1 {
		t.Errorf("%v denials counted", n)
	}
}

func TestRepeatedOperationIsDoneOnce(t *testing.T) {
	op := uuid.Must(uuid.NewV7())
	b := newBench(t, Config{Origin: func(context.Context) Origin { return Origin{Operation: op} }})
	ctx := as(t.Context(), "acme", writeNotes)
	if _, err := Send(ctx, b.Bus, writeNote{ID: "n1", Text: "first"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Send(ctx, b.Bus, writeNote{ID: "n1", Text: "second"}); !errors.Is(err, repo.ErrProcessed) {
		t.Errorf("got %v", err)
	}
	n, err := notes.Get(t.Context(), b.store.Read(repo.Scope{Tenant: "acme"}), "n1")
	if err != nil || n.Text != "first" || n.Version != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}

// rename is refused where the note is not as it was.
type rename struct {
	Returns[string]
	ID, From, To string
}

func (rename) CommandName() string        { return "notes.rename" }
func (r rename) Target() (string, string) { return "notes", r.ID }

// An operation that was done, and whose answer was lost, is not told that what it
// did itself forbids it now. One that was really refused is refused again.
func TestRepeatedOperationMeetsItsOwnEffect(t *testing.T) {
	op := uuid.Must(uuid.NewV7())
	b := newBench(t, Config{Origin: func(context.Context) Origin { return Origin{Operation: op} }})
	Handle(b.Bus, writeNotes, func(ctx context.Context, tx *repo.Tx, c rename) (string, error) {
		_, err := notes.Update(ctx, tx, noteID(c.ID), func(n *note) error {
			if n.Text != c.From {
				return fault.New(fault.PreconditionFailed, "it is %q", n.Text)
			}
			n.Text = c.To
			return nil
		})
		return "", err
	})
	ctx := as(t.Context(), "acme", writeNotes)
	if _, err := Send(ctx, b.Bus, writeNote{ID: "n1", Text: "first"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Send(ctx, b.Bus, rename{ID: "n1", From: "another", To: "x"}); !fault.Is(err, fault.PreconditionFailed) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := Send(ctx, b.Bus, rename{ID: "n1", From: "first", To: "second"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Send(ctx, b.Bus, rename{ID: "n1", From: "first", To: "second"}); !errors.Is(err, repo.ErrProcessed) {
		t.Errorf("got %v", err)
	}
}

type numbered struct {
	Returns[string]
	name string
}

func (n numbered) CommandName() string { return n.name }

// Property 7: a command goes to the handler of its name, whichever others there
// are, and never to another.
func TestProperty7Registration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
		b, err := NewBus(store, Config{})
		if err != nil {
			t.Fatal(err)
		}
		names := rapid.SliceOfDistinct(rapid.StringMatching(`[a-z]{1,4}\.[a-z]{1,4}`), rapid.ID[string]).Draw(t, "names")
		for _, name := range names {
			r := &route[numbered, string]{Route: Route{name, writeNotes, true}}
			r.run = b.around(r.Route, func(_ context.Context, call *Call) error {
				call.payload.(*invocation[numbered, string]).result = name
				return nil
			})
			register(b, r)
		}
		ctx := as(context.Background(), "acme", writeNotes)
		for _, name := range names {
			if got, err := Send(ctx, b, numbered{name: name}); got != name || err != nil {
				t.Fatalf("%s came to %q, %v", name, got, err)
			}
		}
		if _, err := Send(ctx, b, numbered{name: "no.such.name"}); fault.CodeOf(err) != "no_handler" {
			t.Fatalf("got %v", err)
		}
		if len(b.Routes()) != len(names) {
			t.Fatalf("%d routes of %d", len(b.Routes()), len(names))
		}
	})
}

func TestDefectsArePanics(t *testing.T) {
	b := newBench(t, Config{})
	for name, f := range map[string]func(){
		"twice": func() {
			Handle(b.Bus, writeNotes, func(context.Context, *repo.Tx, writeNote) (n note, err error) { return })
		},
		"no permission": func() { Handle(b.Bus, "", func(context.Context, *repo.Tx, numbered) (s string, err error) { return }) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			f()
		})
	}
}

// Properties 8 and 14: within its time an answer is computed once, whoever asks
// how often; after a change or its time it is computed again.
func TestProperties8And14Cache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		defer b.cache.answers.StopAllGoroutines()
		defer b.cache.generations.StopAllGoroutines()
		acme, other := as(t.Context(), "acme", writeNotes, readNotes), as(t.Context(), "other", writeNotes, readNotes)
		write := func(ctx context.Context, text string) {
			t.Helper()
			if _, err := Send(ctx, b.Bus, writeNote{ID: "n", Text: text}); err != nil {
				t.Fatal(err)
			}
		}
		read := func(ctx context.Context, want string, reads int64) {
			t.Helper()
			n, err := Ask(ctx, b.Bus, readNote{ID: "n"})
			if err != nil || n.Text != want || b.reads.Load() != reads {
				t.Errorf("got %q after %d reads, %v; want %q after %d", n.Text, b.reads.Load(), err, want, reads)
			}
		}
		write(acme, "one")
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if n, err := Ask(acme, b.Bus, readNote{ID: "n"}); err != nil || n.Text != "one" {
					t.Errorf("%q, %v", n.Text, err)
				}
			})
		}
		all.Wait()
		read(acme, "one", 1)
		write(other, "theirs") // another tenant's change forgets nothing
		read(acme, "one", 1)
		read(other, "theirs", 2)
		write(acme, "two")
		read(acme, "two", 3)
		time.Sleep(time.Minute)
		read(acme, "two", 4)
		b.Forget("acme", "notes")
		read(acme, "two", 5)
	})
}

func TestMiddlewareOrder(t *testing.T) {
	var order []string
	mark := func(name string) Middleware {
		return func(next Next) Next {
			return func(ctx context.Context, call *Call) error {
				order = append(order, name+" "+call.Name)
				return next(ctx, call)
			}
		}
	}
	b := newBench(t, Config{Middleware: []Middleware{mark("a"), mark("b")}})
	if _, err := Send(as(t.Context(), "acme", writeNotes), b.Bus, writeNote{ID: "n", Text: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Send(as(t.Context(), "acme"), b.Bus, writeNote{ID: "n", Text: "x"}); err == nil {
		t.Fatal("not denied")
	}
	if d := cmp.Diff([]string{"a notes.write", "b notes.write"}, order); d != "" {
		t.Error(d)
	}
}
