package deliver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/natsqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/egress"
	"sluice/internal/platform/webhook/send"
)

// hook is what a receiver got.
type hook struct {
	id, signature string
	sequence      int64
}

// From an event in SQLite over JetStream to a receiver that speaks HTTPS, and
// fails at first.
func TestTheWholeWay(t *testing.T) {
	got := make(chan hook, 64)
	var mu sync.Mutex
	failed := map[string]bool{}
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		var body webhook.Body
		if err != nil || json.Unmarshal(text, &body) != nil {
			t.Errorf("%s, %v", text, err)
		}
		id := r.Header.Get("webhook-id")
		mu.Lock()
		defer mu.Unlock()
		if body.Data.Sequence == 2 && !failed[id] {
			failed[id] = true
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		got <- hook{id, r.Header.Get("webhook-signature"), body.Data.Sequence}
	}))
	receiver.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	receiver.StartTLS()
	defer receiver.Close()
	address := netip.MustParseAddrPort(receiver.Listener.Addr().String())
	sender := send.New(send.Config{Egress: egress.Config{Ports: []uint16{address.Port()}, Allow: []netip.Prefix{netip.PrefixFrom(address.Addr(), 32)}},
		Roots: receiver.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}) //nolint:forcetypeassert // what httptest makes
	defer sender.Close()

	b := &bed{t: t, tenants: []string{"acme"}}
	driver, err := sqliterepo.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "s.db"), sqliterepo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close()
	b.store = repo.New(driver, repo.Config{})
	if err := driver.Migrate(t.Context(), append(webhook.Schemas(), repo.LeaseSchema(), things.Schema())); err != nil {
		t.Fatal(err)
	}
	q := nats(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer func() { cancel(); all.Wait() }()
	r, err := relay.New(b.store, q, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(b.store, q, b.epoch, sender, ring, b.all, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(context.Context) error{r.Run, s.Run} {
		all.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}

	b.do("acme", func(ctx context.Context, tx *repo.Tx) error {
		fresh, err := webhook.NewSecret(zeros{})
		if err != nil {
			return err
		}
		e := &webhook.Endpoint{}
		e.ID = "e"
		e.Begin(ring, fresh)
		if err := e.Set(receiver.URL, []string{"thing.*"}, false); err != nil {
			return err
		}
		return webhook.Endpoints.Add(ctx, tx, e)
	})
	const events = 20
	for range events {
		b.move("acme", "t")
	}
	seen := map[int64]bool{}
	for range events {
		select {
		case h := <-got:
			if seen[h.sequence] || h.signature[:3] != "v1," || h.id[:4] != "evt_" {
				t.Errorf("%+v", h)
			}
			seen[h.sequence] = true
		case <-time.After(30 * time.Second):
			t.Fatalf("only %d events have come: %+v", len(seen), b.deliveries("acme", "e"))
		}
	}
	if len(failed) != 1 {
		t.Errorf("%d events were sent again", len(failed))
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		n, err := webhook.Deliveries.Count(t.Context(), b.store.Read(repo.Scope{Tenant: "acme"}), webhook.Open())
		if err == nil && n == 0 {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d are not final, %v", n, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// zeros is no source of secrets but in tests.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// nats is JetStream within the test.
func nats(t *testing.T) queue.Queue {
	t.Helper()
	server, err := natsqueue.Start(t.Context(), t.TempDir(), natsqueue.ServerConfig{Sync: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	q, err := natsqueue.Open(natsqueue.Config{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	if err := q.Ensure(t.Context(), queue.Stream{Name: "EVENTS", Subjects: []string{repo.StreamEvents + ".>"}, Discard: queue.Oldest}, webhook.Stream(1, time.Minute)); err != nil {
		t.Fatal(err)
	}
	return q
}
