// Package relay carries messages from a store's outbox to the queue: each at
// least once, those of one aggregate in their order.
//
// A shard of the outbox belongs to one relay at a time, by a lease. A message is
// published with its own id, which the queue's duplicate window and the
// consumers' inboxes recognise, and marked once the queue has acknowledged it.
// It stays in the outbox for a while: a relay that takes over a shard publishes
// the latest again, so that a queue which lost its latest data, as JetStream
// does in a power cut, is filled again.
package relay

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// Config holds what a Relay may be given; the zero value has defaults.
type Config struct {
	Owner string        // this process; default a random name
	Lease time.Duration // of a shard; default 10s
	// Retain is for how long published messages stay; default 10m. The queue's
	// duplicate window should be as long.
	Retain time.Duration
	// Again is for how long before the last of them published messages are published
	// again at a start, and no more than Retain before the start, which is the default:
	// longer than the queue takes to make them survive a loss of power.
	Again   time.Duration
	Poll    time.Duration // how often a shard is looked at that nobody has said to have changed; default 250ms
	Batch   int           // messages published at a time; default 256
	Log     *slog.Logger  // nil discards
	Metrics prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.Owner == "" {
		c.Owner = "relay-" + repo.RandomName()
	}
	if c.Lease <= 0 {
		c.Lease = 10 * time.Second
	}
	if c.Retain <= 0 {
		c.Retain = 10 * time.Minute
	}
	if c.Again <= 0 || c.Again > c.Retain {
		c.Again = c.Retain
	}
	if c.Poll <= 0 {
		c.Poll = 250 * time.Millisecond
	}
	if c.Batch <= 0 {
		c.Batch = 256
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Relay publishes the outbox of a store.
type Relay struct {
	store     *repo.Store
	outbox    repo.Outbox
	publisher queue.Publisher
	cfg       Config
	metrics   *metrics
}

// New returns a relay from the store to the publisher. The store must have been
// migrated with repo.LeaseSchema.
func New(store *repo.Store, publisher queue.Publisher, cfg Config) (*Relay, error) {
	r := &Relay{store: store, outbox: store.Driver(), publisher: publisher, cfg: cfg.withDefaults()}
	var err error
	r.metrics, err = newMetrics(cfg.Metrics, r.outbox)
	return r, err
}

// Lanes is the number of subjects that the aggregates of one kind and tenant
// share: what has one subject is published one after the other.
const Lanes = 256

// Subject returns the subject that a message is published to:
// stream.tenant.kind.lane, with _ for what belongs to the platform.
func Subject(m *repo.Message) string {
	tenant := m.Tenant
	if tenant == "" {
		tenant = "_"
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(m.Key.ID)) // never fails
	return m.Stream + "." + tenant + "." + m.Kind + "." + strconv.FormatUint(uint64(h.Sum32()%Lanes), 10)
}

// Encode returns the message as the queue carries it; Decode takes it back.
func Encode(m *repo.Message) (queue.Message, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return queue.Message{}, fault.Wrap(fault.Internal, err, "the message %s cannot be encoded", m.ID)
	}
	header := queue.Header{queue.HeaderType: m.Type}
	for key, value := range map[string]string{
		queue.HeaderTenant: m.Tenant, queue.HeaderTraceParent: m.TraceParent, queue.HeaderRequestID: m.Request, queue.HeaderCorrelation: m.Correlation,
	} {
		if value != "" {
			header[key] = value
		}
	}
	return queue.Message{ID: m.ID, Subject: Subject(m), Header: header, Data: data}, nil
}

// Decode returns the message that a queue's message carries.
func Decode(q *queue.Message) (repo.Message, error) {
	var m repo.Message
	if err := json.Unmarshal(q.Data, &m); err != nil || m.ID != q.ID {
		return m, fault.Wrap(fault.Invalid, err, "the message %s does not hold what a relay has sent", fault.Clip(q.ID, 64)).WithCode("message_malformed")
	}
	return m, nil
}

// publish sends pending messages and marks those that are stored. It returns
// how many that were, and what kept others from it.
func (r *Relay) publish(ctx context.Context, shard int) (int, error) {
	pending, err := r.outbox.Pending(ctx, shard, r.cfg.Batch)
	if err != nil || len(pending) == 0 {
		return 0, err
	}
	batch := make([]queue.Message, len(pending))
	for i := range pending {
		if batch[i], err = Encode(&pending[i]); err != nil {
			return 0, err
		}
	}
	failed := r.publisher.Publish(ctx, batch...)
	stored := pending[:0]
	now := r.store.Now()
	for i, m := range pending {
		if queue.Outcome(failed, i) == nil {
			r.metrics.lag.Observe(now.Sub(m.Time).Seconds())
			stored = append(stored, m)
		}
	}
	if len(stored) == 0 {
		return 0, failed
	}
	// What was stored is marked also where ctx has just ended: else all of it
	// would be sent again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Lease)
	defer cancel()
	err = r.outbox.Published(ctx, shard, stored, now)
	r.metrics.published.Add(float64(len(stored)))
	return len(stored), errors.Join(failed, err)
}
