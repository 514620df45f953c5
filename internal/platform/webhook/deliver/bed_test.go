package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/send"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ringText = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"

// ring seals the secrets of endpoints.
var ring = ringOf(ringText)

func ringOf(text string) *seal.Ring {
	r, err := seal.Parse(text)
	if err != nil {
		panic(err)
	}
	return r
}

type thingID string

// thing is what events are about here.
type thing struct {
	aggregate.Root[thingID]
	N int
}

type moved struct {
	N int `json:"n"`
}

func (moved) EventType() string { return "thing.moved" }

var things = repo.Kind[thingID, thing]{Name: "things", Root: func(t *thing) *aggregate.Root[thingID] { return &t.Root }}

// post is a webhook that was sent.
type post struct {
	send.Message
	at time.Time
}

// fake is a transport that answers as it is told, and remembers.
type fake struct {
	mu     sync.Mutex
	posts  []post
	answer func(ctx context.Context, m send.Message) webhook.Result
}

func (f *fake) Send(ctx context.Context, m send.Message) webhook.Result {
	f.mu.Lock()
	f.posts = append(f.posts, post{m, time.Now()})
	answer := f.answer
	f.mu.Unlock()
	if answer == nil {
		return webhook.Result{Status: 200}
	}
	return answer(ctx, m)
}

// to returns what was sent to an address that has the part.
func (f *fake) to(part string) []post {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.posts), func(p post) bool { return !strings.Contains(p.URL, part) })
}

// bed is all that carries an event from its aggregate to its receiver.
type bed struct {
	t        *testing.T
	store    *repo.Store
	queue    *memqueue.Queue
	made     int // queues so far
	sender   *fake
	tenants  []string
	keys     *seal.Ring
	cfg      Config
	registry *prometheus.Registry // of the service that was started last
}

// bare is a driver that can do no more than that of a wide-column store.
type bare struct{ repo.Driver }

func (bare) Summarise(context.Context, *repo.Schema, *repo.SummaryQuery) ([]spec.Group, error) {
	return nil, spec.Unsupported("it keeps no sums and counts")
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, store: repo.New(bare{memrepo.New(memrepo.Config{OneAggregate: true})}, repo.Config{}), sender: &fake{}, keys: ring, tenants: []string{"acme", "rival"},
		cfg: Config{Lease: 10 * time.Minute, Reconcile: 30 * time.Second, Random: func() float64 { return 0 }}}
	schemas := append(webhook.Schemas(), repo.LeaseSchema(), things.Schema())
	if err := b.store.Driver().Migrate(t.Context(), schemas); err != nil {
		t.Fatal(err)
	}
	b.newQueue()
	return b
}

// newQueue replaces the queue by an empty one: all messages are lost.
func (b *bed) newQueue() {
	b.t.Helper()
	q, err := memqueue.New(memqueue.Config{})
	if err != nil {
		b.t.Fatal(err)
	}
	events := queue.Stream{Name: "EVENTS", Subjects: []string{repo.StreamEvents + ".>"}, Discard: queue.Oldest}
	if err := q.Ensure(b.t.Context(), events, webhook.Stream(1, time.Minute)); err != nil {
		b.t.Fatal(err)
	}
	b.queue = q
	b.made++
}

func (b *bed) epoch(context.Context) (string, error) { return strconv.Itoa(b.made), nil }

// start runs the relay and so many services on the present queue.
func (b *bed) start(services int) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	run := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil {
				b.t.Error(err)
			}
		})
	}
	r, err := relay.New(b.store, b.queue, relay.Config{Retain: time.Millisecond, Poll: time.Minute, Lease: time.Hour})
	if err != nil {
		b.t.Fatal(err)
	}
	run(r.Run)
	for range services {
		cfg := b.cfg
		b.registry = prometheus.NewPedanticRegistry()
		cfg.Metrics = b.registry
		s, err := New(b.store, b.queue, b.epoch, b.sender, b.keys, b.all, cfg)
		if err != nil {
			b.t.Fatal(err)
		}
		run(s.Run)
	}
	return func() { cancel(); all.Wait() }
}

func (b *bed) all(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, t := range b.tenants {
			if !yield(t, nil) {
				return
			}
		}
	}
}

func (b *bed) do(tenant string, f func(ctx context.Context, tx *repo.Tx) error) {
	b.t.Helper()
	if err := b.store.Do(context.Background(), repo.Scope{Tenant: tenant, Actor: "key_1"}, f); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) endpoint(tenant string, id webhook.EndpointID, events ...string) {
	b.t.Helper()
	b.do(tenant, func(ctx context.Context, tx *repo.Tx) error {
		e := &webhook.Endpoint{}
		e.ID = id
		e.Begin(ring, secret.Of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
		if err := e.Set(fmt.Sprintf("https://%s.example/", id), events, false); err != nil {
			return err
		}
		return webhook.Endpoints.Add(ctx, tx, e)
	})
}

// move makes an event of a thing.
func (b *bed) move(tenant string, id thingID) {
	b.t.Helper()
	b.do(tenant, func(ctx context.Context, tx *repo.Tx) error {
		_, err := things.Update(ctx, tx, id, func(t *thing) error { t.N++; t.Record(moved{t.N}); return nil })
		if !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		t := &thing{N: 1}
		t.ID = id
		t.Record(moved{1})
		return things.Add(ctx, tx, t)
	})
}

// deliveries returns those of an endpoint, in the order of their subjects and
// sequences.
func (b *bed) deliveries(tenant string, endpoint webhook.EndpointID) []webhook.Delivery {
	b.t.Helper()
	var out []webhook.Delivery
	for d, err := range webhook.Deliveries.All(context.Background(), b.store.Read(repo.Scope{Tenant: tenant}), spec.Query[webhook.Delivery]{}) {
		if err != nil {
			b.t.Fatal(err)
		}
		if d.Endpoint == endpoint {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(x, y webhook.Delivery) int {
		return strings.Compare(fmt.Sprintf("%s %09d", x.Subject, x.Sequence), fmt.Sprintf("%s %09d", y.Subject, y.Sequence))
	})
	return out
}

// one returns the only delivery of an endpoint.
func (b *bed) one(endpoint webhook.EndpointID) webhook.Delivery {
	b.t.Helper()
	all := b.deliveries("acme", endpoint)
	if len(all) != 1 {
		b.t.Fatalf("%s has %d deliveries", endpoint, len(all))
	}
	return all[0]
}

func (b *bed) find(endpoint webhook.EndpointID) webhook.Endpoint {
	b.t.Helper()
	e, err := webhook.Endpoints.Get(context.Background(), b.store.Read(repo.Scope{Tenant: "acme"}), endpoint)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

func decode(t *testing.T, text []byte) (b webhook.Body) {
	t.Helper()
	if err := json.Unmarshal(text, &b); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return b
}
