// Package deliver carries webhooks out: it matches events with endpoints, makes
// the attempts, and looks after what is due.
//
// Events are read from the stream of all events, in one process at a time and in
// waves, since most of them nobody wants to be told of. A match makes
// a delivery in the store, once, and the outbox a notice that it is due. Notices
// are only hints: the process that gets one puts the delivery into a lane of its
// endpoint and forgets the notice, for a queue bounds what is out for delivery, and
// the deliveries of one endpoint that is slow must not use that up. Should the
// process die, the reconciler announces again what is due.
//
// What happened to one subject is told an endpoint in its order: a delivery is not
// attempted while an earlier one is on its way, and is offered again once that is
// final. A process that dies in between leaves that to the reconciler.
//
// Each attempt is counted in the store before it is made, and its outcome counts
// only while no later one has begun.
//
// Known limits: how much is under way for an endpoint or a tenant is bounded in
// each process, not over all; what a process holds in its lanes when it stops is
// sent by another up to a minute later; a receiver gets a webhook again, with the
// same id, where the process dies between its answer and the commit.
package deliver

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/send"
)

// Sender makes one attempt; *send.Sender is one.
type Sender interface {
	Send(ctx context.Context, m send.Message) webhook.Result
}

// Queue is what a Service needs of the queue.
type Queue interface {
	queue.Consuming
	queue.Reader
}

// Epoch says which stream of events there is: another one, once it was lost and made
// again.
type Epoch func(ctx context.Context) (string, error)

// Tenants goes through the ids of all tenants.
type Tenants func(ctx context.Context) iter.Seq2[string, error]

// Config holds what a Service may be given; the zero value has defaults.
type Config struct {
	Owner        string        // this process, where it takes leases; default a random name
	Concurrency  int           // attempts at once; default 64
	PerTenant    int           // of one tenant; default a quarter of Concurrency
	PerEndpoint  int           // of one endpoint; default 8, PerTenant at most
	Backlog      int           // deliveries that wait in memory, of one endpoint; default 1000
	Lease        time.Duration // of the matching of events; default 10s
	Reconcile    time.Duration // how often what is due is looked for; default 5s
	Drain        time.Duration // how long attempts may finish at the end; default 8s
	DisableAfter time.Duration // of failures only; default 5 days
	Random       func() float64
	Log          *slog.Logger // nil discards
	Metrics      prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.Owner == "" {
		c.Owner = "webhooks-" + repo.RandomName()
	}
	c.Concurrency = cmp.Or(c.Concurrency, 64)
	c.PerTenant = cmp.Or(c.PerTenant, max(c.Concurrency/4, 1))
	c.PerEndpoint = min(cmp.Or(c.PerEndpoint, 8), c.PerTenant)
	c.Backlog = cmp.Or(c.Backlog, 1000)
	c.Lease = cmp.Or(c.Lease, 10*time.Second)
	c.Reconcile = cmp.Or(c.Reconcile, 5*time.Second)
	c.Drain = cmp.Or(c.Drain, 8*time.Second)
	c.DisableAfter = cmp.Or(c.DisableAfter, 5*24*time.Hour)
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Service delivers webhooks.
type Service struct {
	store   *repo.Store
	queue   Queue
	epoch   Epoch
	sender  Sender
	keys    *seal.Ring
	tenants Tenants
	cfg     Config
	lanes   *lanes
	metrics *metrics
}

// New returns a service that signs with secrets which the keys open. The store must
// have been migrated with webhook.Schemas and repo.LeaseSchema, and the queue have
// the streams EVENTS and webhook.Stream.
func New(store *repo.Store, q Queue, epoch Epoch, sender Sender, keys *seal.Ring, tenants Tenants, cfg Config) (*Service, error) {
	cfg = cfg.withDefaults()
	s := &Service{store: store, queue: q, epoch: epoch, sender: sender, keys: keys, tenants: tenants, cfg: cfg,
		lanes: newLanes(limits{cfg.PerTenant, cfg.PerEndpoint, cfg.Backlog})}
	var err error
	s.metrics, err = newMetrics(cfg.Metrics, s.lanes)
	return s, err
}

// Run delivers until ctx ends, and lets attempts that are under way finish then.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	defer s.lanes.closeWith(ctx)()
	defer context.AfterFunc(ctx, func() {
		t := time.NewTimer(s.cfg.Drain)
		defer t.Stop()
		select {
		case <-t.C:
			abort()
		case <-work.Done():
		}
	})()
	var (
		senders, all sync.WaitGroup
		first        sync.Once
		failure      error
	)
	for range s.cfg.Concurrency {
		senders.Go(func() { s.send(work) })
	}
	for _, part := range []func(context.Context) error{s.match, s.receive, s.reconcile} {
		all.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				first.Do(func() { failure = err })
				cancel()
			}
		})
	}
	all.Wait()
	cancel() // closes the lanes, also where one part has ended by itself
	senders.Wait()
	return failure
}

// maxDeliveries is so high that no outage makes a dead letter of a notice; only
// what is no message at all becomes one, at once.
const maxDeliveries = 1 << 20

// receive takes notices of what is due into the lanes.
func (s *Service) receive(ctx context.Context) error {
	return s.queue.Consume(ctx, queue.Consumer{Name: "webhook-deliveries", Stream: webhook.StreamName, Concurrency: 4, MaxAttempts: maxDeliveries,
		Backoff: queue.Backoff{Min: 100 * time.Millisecond, Max: 30 * time.Second}}, s.receiveOne)
}

// send makes attempts until the lanes are closed.
func (s *Service) send(ctx context.Context) {
	for {
		i, ok := s.lanes.take()
		if !ok {
			return
		}
		again := s.attend(ctx, i)
		s.lanes.done(i)
		if again > 0 {
			// A lane that was closed meanwhile takes nothing: the reconciler of
			// another process will.
			time.AfterFunc(again, func() { s.offer(i) })
		}
	}
}

func (s *Service) offer(i item) {
	if !s.lanes.offer(i) {
		s.metrics.deferred.Inc()
	}
}
