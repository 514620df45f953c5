package trail

import (
	"context"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The process that writes the log serves it; others say who does, unless they
// reach its storage themselves.
func TestWhoServesTheLog(t *testing.T) {
	b := newBench(t)
	r, err := relay.New(b.store, b.queue, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.start(r.Run)()
	shared := &audit.Memory{}
	open := func() (audit.Storage, func() error, error) { return shared, func() error { return nil }, nil }
	writer := New(b.store, b.queue, open, b.key, Config{Owner: "a"})
	idle := New(b.store, b.queue, open, b.key, Config{Owner: "b"})
	reader := New(b.store, b.queue, open, b.key, Config{Owner: "c", Shared: shared})
	stop := b.start(writer.Run)
	if _, err := cqrs.Send(b.as("t0", true), b.bus, greet{}); err != nil {
		t.Fatal(err)
	}
	e := b.entries("t0", 1, spec.Spec[Entry]{})[0]
	from := b.store.Read(repo.Scope{Tenant: "t0"})
	for _, serving := range []*Trail{writer, reader} {
		for _, name := range []string{"checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"} {
			if data, err := serving.File(t.Context(), name); err != nil || len(data) == 0 {
				t.Errorf("%s has no %s: %v", serving.cfg.Owner, name, err)
			}
		}
	}
	proof, err := writer.Prove(t.Context(), from, EntryID(e.Entry.ID))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := proof.Check(b.key.Public()); err != nil || got.ID != e.Entry.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := writer.Prove(t.Context(), b.store.Read(repo.Scope{Tenant: "t1"}), EntryID(e.Entry.ID)); !fault.Is(err, fault.NotFound) {
		t.Errorf("another tenant's: %v", err)
	}
	for _, other := range []*Trail{idle, reader} {
		_, err := other.Prove(t.Context(), from, EntryID(e.Entry.ID))
		if f := fault.Of(err); f.Code != "audit_not_writer" || f.Kind != fault.Unavailable || f.RetryAfter == 0 {
			t.Errorf("%s proves: %v", other.cfg.Owner, err)
		}
	}
	if _, err := idle.File(t.Context(), "checkpoint"); fault.CodeOf(err) != "audit_not_writer" {
		t.Errorf("got %v", err)
	}
	stop()
	if _, err := writer.File(context.Background(), "checkpoint"); fault.CodeOf(err) != "audit_not_writer" {
		t.Errorf("after its end: %v", err)
	}
}

// A read model that does not fit the log does not give away what is at the same
// place, which may be another tenant's.
func TestProofOfAnotherEntry(t *testing.T) {
	b := newBench(t)
	shared := &audit.Memory{}
	log, err := audit.Open(t.Context(), shared, b.key, audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tr := New(b.store, b.queue, nil, b.key, Config{})
	tr.use(log, shared)
	theirs := audit.Entry{ID: "evt_1", Time: time.Unix(0, 0), Tenant: "t1", Action: "a.b", Outcome: audit.OK}
	if _, err := log.Append(t.Context(), []audit.Entry{theirs}); err != nil {
		t.Fatal(err)
	}
	mine := theirs
	mine.ID, mine.Tenant = "evt_2", "t0"
	scope := repo.Scope{Tenant: "t0"}
	if err := tr.index(t.Context(), scope, mine, 0); err != nil {
		t.Fatal(err)
	}
	if p, err := tr.Prove(t.Context(), b.store.Read(scope), "evt_2"); fault.CodeOf(err) != "audit_read_model" || p.Leaf != nil {
		t.Errorf("%s, %v", p.Leaf, err)
	}
}

// Only what tlog-tiles names is served, whatever else lies in the storage.
func TestPublishedFiles(t *testing.T) {
	for name, want := range map[string]bool{
		"checkpoint": true, "tile/0/000": true, "tile/63/999": true, "tile/0/x001/x234/067": true, "tile/entries/x001/067.p/255": true, "tile/1/000.p/1": true,
		"": false, "pending": false, "witnessed": false, "checkpoint/": false, "checkpoint\n": false, ".lock": false, "tile/64/000": false, "tile/00/000": false,
		"tile/0/000.p/0": false, "tile/0/000.p/256": false, "tile/0/000.p/01": false, "tile/0/x001": false, "tile/0/../000": false, "tile//000": false,
		"/checkpoint": false, "tile/0/0000": false, "tile/data/000": false, "tile/0/" + strings.Repeat("x000/", 7) + "000": false,
	} {
		if published.MatchString(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
}
