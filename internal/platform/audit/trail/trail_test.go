package trail

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type greet struct{ cqrs.Returns[int] }

func (greet) CommandName() string { return "greetings.greet" }

// bench is all that carries an audit entry from a command to the log.
type bench struct {
	t      *testing.T
	store  *repo.Store
	bus    *cqrs.Bus
	queue  *memqueue.Queue
	folder string
	key    audit.Key
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, store: repo.New(memrepo.New(memrepo.Config{}), repo.Config{}), folder: t.TempDir()}
	var err error
	if b.queue, err = memqueue.New(memqueue.Config{}); err != nil {
		t.Fatal(err)
	}
	if err := b.queue.Ensure(t.Context(), Stream(1, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if b.key, err = audit.NewKey(rand.Reader, "test/audit"); err != nil {
		t.Fatal(err)
	}
	if b.bus, err = cqrs.NewBus(b.store, cqrs.Config{}); err != nil {
		t.Fatal(err)
	}
	cqrs.Handle(b.bus, "greetings:greet", func(context.Context, *repo.Tx, greet) (int, error) { return 0, nil })
	return b
}

func (b *bench) as(tenant string, allowed bool) context.Context {
	p := &access.Principal{Tenant: tenant, Subject: "key_1"}
	if allowed {
		p.Permissions = access.SetOf("greetings:greet")
	}
	return access.With(b.t.Context(), p)
}

func (b *bench) trail(owner string) *Trail {
	open := func() (audit.Storage, func() error, error) {
		f, err := audit.OpenFolder(b.folder)
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	}
	return New(b.store, b.queue, open, b.key, Config{Owner: owner, Lease: 300 * time.Millisecond})
}

// start runs something until the returned function is called.
func (b *bench) start(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		b.t.Helper()
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

// entries waits until a tenant has n entries in the read model.
func (b *bench) entries(tenant string, n int, where spec.Spec[Entry]) []Entry {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		page, err := Entries.Find(b.t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), spec.Query[Entry]{Where: where, Limit: spec.MaxLimit})
		if err != nil {
			b.t.Fatal(err)
		}
		if len(page.Items) >= n || time.Now().After(deadline) {
			if len(page.Items) != n {
				b.t.Fatalf("%s has %d entries of %d", tenant, len(page.Items), n)
			}
			return page.Items
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestCommandsReachTheLog(t *testing.T) {
	b := newBench(t)
	r, err := relay.New(b.store, b.queue, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.start(r.Run)()
	stop := b.start(b.trail("a").Run)
	const n = 100
	for i := range n {
		tenant := fmt.Sprint("t", i%2)
		if _, err := cqrs.Send(b.as(tenant, i%10 != 0), b.bus, greet{}); (err == nil) != (i%10 != 0) {
			t.Fatal(err)
		}
		if i == n/2 { // another process takes over in the middle
			stop()
			stop = b.start(b.trail("b").Run)
		}
	}
	outcome := spec.TextField("outcome", func(e *Entry) string { return string(e.Outcome) })
	all := append(b.entries("t0", n/2, spec.Spec[Entry]{}), b.entries("t1", n/2, spec.Spec[Entry]{})...)
	b.entries("t0", n/10, outcome.Eq("denied"))
	b.entries("t1", 0, outcome.Eq("denied"))
	stop()
	places := map[int64]bool{}
	for _, e := range all {
		places[e.Index] = true
		if e.Action != "greetings.greet" || e.Actor != "key_1" || e.Entry.ID != string(e.Root.ID) || e.Entry.Tenant != e.Root.Tenant {
			t.Errorf("entry %+v", e)
		}
	}
	if len(places) != n {
		t.Errorf("%d places in the log for %d entries", len(places), n)
	}
	report, err := audit.Verify(t.Context(), os.DirFS(b.folder), audit.Trust{Keys: []audit.PublicKey{b.key.Public()}})
	if err != nil || !report.OK() || report.Entries != n {
		t.Errorf("the log does not verify: %+v, %v", report, err)
	}
}

// An entry that comes again, also after the log has forgotten it, has one place.
func TestRepeatedEntries(t *testing.T) {
	b := newBench(t)
	trail := b.trail("a")
	trail.cfg.Log.Recent = 1
	run := b.start(trail.Run)
	var messages []repo.Message
	for range 5 {
		if _, err := cqrs.Send(b.as("t0", true), b.bus, greet{}); err != nil {
			t.Fatal(err)
		}
	}
	messages, err := b.store.Driver().Pending(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		for i := range messages {
			q, err := relay.Encode(&messages[i])
			if err != nil {
				t.Fatal(err)
			}
			q.ID += fmt.Sprint("-", round) // the queue takes it for a new one
			q.Data = fmt.Appendf(nil, "%s", reID(q.Data, messages[i].ID, q.ID))
			if err := b.queue.Publish(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		b.entries("t0", 5, spec.Spec[Entry]{})
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if bounds, err := b.queue.Bounds(t.Context(), "AUDIT"); err != nil {
			t.Fatal(err)
		} else if bounds.First > bounds.Last { // all handled
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	run()
	report, err := audit.Verify(t.Context(), os.DirFS(b.folder), audit.Trust{Keys: []audit.PublicKey{b.key.Public()}})
	if err != nil || !report.OK() || report.Entries != 5 {
		t.Errorf("%+v, %v", report, err)
	}
}

// reID gives the message that a queue's message holds another id.
func reID(data []byte, from, to string) []byte {
	return bytes.Replace(data, []byte(`"id":"`+from+`"`), []byte(`"id":"`+to+`"`), 1)
}
