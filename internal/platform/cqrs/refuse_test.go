package cqrs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// outcomes are those of the audit log, with codes and targets.
func (b *bench) outcomes(t testing.TB) (all []string) {
	t.Helper()
	entries, _ := b.outbox(t)
	for _, e := range entries {
		all = append(all, fmt.Sprintf("%s %s %s %s", e.Outcome, e.Action, e.Code, e.Resource))
	}
	return all
}

type explode struct {
	Returns[note]
	ID noteID
}

func (explode) CommandName() string     { return "notes.explode" }
func (e explode) Target() (_, _ string) { return "notes", string(e.ID) }
func (explode) QueryName() string       { return "notes.implode" }
func (e explode) CacheKey() string      { return string(e.ID) }
func (e explode) Validate() (_ error)   { return map[noteID]error{"invalid": errInvalid}[e.ID] }

var errInvalid error = fault.New(fault.Unprocessable, "no").WithCode("note_invalid")

// A command whose handler panics changes nothing, is audited as failed, and is
// an error for its caller, who learns nothing of the panic. The next one works.
func TestPanicInACommand(t *testing.T) {
	var log bytes.Buffer
	b := newBench(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	Handle(b.Bus, writeNotes, func(ctx context.Context, tx *repo.Tx, c explode) (note, error) {
		n := note{Text: "half done"}
		n.ID = c.ID
		n.Record(written{})
		if err := notes.Add(ctx, tx, &n); err != nil {
			return n, err
		}
		panic("the secret reason")
	})
	ctx := as(t.Context(), "acme", writeNotes)
	n, err := Send(ctx, b.Bus, explode{ID: "n1"})
	if !fault.Is(err, fault.Internal) || fault.CodeOf(err) != "panic" || strings.Contains(err.Error(), "secret") || n.Text != "" {
		t.Errorf("%+v, %v", n, err)
	}
	if ok, err := notes.Exists(ctx, b.store.Read(repo.Scope{Tenant: "acme"}), "n1"); ok || err != nil {
		t.Errorf("half of it was kept: %t, %v", ok, err)
	}
	if _, events := b.outbox(t); len(events) != 0 {
		t.Errorf("events %v", events)
	}
	if d := cmp.Diff([]string{"failed notes.explode panic n1"}, b.outcomes(t)); d != "" {
		t.Error(d)
	}
	if !strings.Contains(log.String(), "the secret reason") || !strings.Contains(log.String(), "refuse_test.go") {
		t.Errorf("the log does not say where: %s", log.String())
	}
	if _, err := Send(ctx, b.Bus, writeNote{ID: "n1", Text: "x"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// All who wait for an answer get the error, and it is not remembered.
func TestPanicInACachedQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		defer b.cache.answers.StopAllGoroutines()
		defer b.cache.generations.StopAllGoroutines()
		broken := true
		HandleQuery(b.Bus, readNotes, func(context.Context, repo.Reading, explode) (note, error) {
			if broken {
				time.Sleep(time.Second)
				panic("defect")
			}
			return note{Text: "fine"}, nil
		}, Cached(time.Hour, "notes"))
		ctx := as(t.Context(), "acme", readNotes)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := Ask(ctx, b.Bus, explode{ID: "n"}); fault.CodeOf(err) != "panic" {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		broken = false
		if n, err := Ask(ctx, b.Bus, explode{ID: "n"}); err != nil || n.Text != "fine" {
			t.Errorf("%+v, %v", n, err)
		}
		if _, err := Ask(ctx, b.Bus, explode{ID: "invalid"}); !errors.Is(err, errInvalid) {
			t.Errorf("an invalid query: %v", err)
		}
	})
}

// A stream may outlive the credential that it was begun with.
func TestExpiredPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		defer b.cache.answers.StopAllGoroutines()
		defer b.cache.generations.StopAllGoroutines()
		ctx := access.With(t.Context(), &access.Principal{Tenant: "acme", Subject: "key_1", Permissions: access.SetOf(writeNotes), Expires: time.Now().Add(time.Minute)})
		if _, err := Send(ctx, b.Bus, writeNote{ID: "n", Text: "x"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := Send(ctx, b.Bus, writeNote{ID: "n", Text: "y"}); fault.CodeOf(err) != "credential_expired" {
			t.Errorf("got %v", err)
		}
		if d := cmp.Diff([]string{"ok notes.write  n", "denied notes.write credential_expired n"}, b.outcomes(t)); d != "" {
			t.Error(d)
		}
	})
}

// Rules decide by what the target is, in the same unit of work.
func TestRules(t *testing.T) {
	b := newBench(t, Config{})
	b.Restrict("notes.write", func(ctx context.Context, tx *repo.Tx, id string) error {
		p, _ := access.From(ctx)
		n, err := notes.Get(ctx, tx, noteID(id))
		if err == nil && n.CreatedBy != p.Subject {
			return fault.New(fault.PermissionDenied, "not yours").WithCode("not_yours")
		}
		return nil
	})
	owner := as(t.Context(), "acme", writeNotes)
	another := access.With(t.Context(), &access.Principal{Tenant: "acme", Subject: "key_2", Permissions: access.SetOf(writeNotes)})
	for range 2 {
		if _, err := Send(owner, b.Bus, writeNote{ID: "n", Text: "mine"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Send(another, b.Bus, writeNote{ID: "n", Text: "theirs"}); fault.CodeOf(err) != "not_yours" {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff("denied notes.write not_yours n", b.outcomes(t)[2]); d != "" {
		t.Error(d)
	}
}

// What an edge has refused is a denial as well; nobody in particular is not.
func TestDeniedElsewhere(t *testing.T) {
	b := newBench(t, Config{Origin: func(context.Context) Origin { return Origin{Request: "r1"} }})
	cause := fault.New(fault.PermissionDenied, "no").WithCode("permission_missing")
	b.Denied(t.Context(), "get-note", cause)
	b.Denied(as(t.Context(), "acme"), "get-note", cause)
	entries, _ := b.outbox(t)
	if len(entries) != 1 || entries[0].Outcome != audit.Denied || entries[0].Action != "get-note" || entries[0].Code != "permission_missing" || entries[0].Actor != "key_1" || entries[0].Request != "r1" {
		t.Errorf("entries %+v", entries)
	}
}

type onPointer struct{ Returns[int] }

func (onPointer) CommandName() string { return "pointers.send" }
func (*onPointer) Validate() error    { return errInvalid }

type wholly struct{ Returns[int] }

func (*wholly) CommandName() string { return "pointers.wholly" }
func (*wholly) Validate() error     { return errInvalid }

// A Validate that would never be called is a defect, seen at the first start.
func TestMethodsOnPointers(t *testing.T) {
	b := newBench(t, Config{})
	Handle(b.Bus, writeNotes, func(context.Context, *repo.Tx, *wholly) (int, error) { return 0, nil })
	if _, err := Send(as(t.Context(), "acme", writeNotes), b.Bus, &wholly{}); !errors.Is(err, errInvalid) {
		t.Errorf("a pointer as a command: %v", err)
	}
	for name, f := range map[string]func(){
		"validation on the pointer": func() {
			Handle(b.Bus, writeNotes, func(context.Context, *repo.Tx, onPointer) (int, error) { return 0, nil })
		},
		"rule of nothing": func() { b.Restrict("no.such", func(context.Context, *repo.Tx, string) error { return nil }) },
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
