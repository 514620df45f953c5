package node

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/queuefeed"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/webhook"
)

// Retain is for how long the outbox keeps what was published: longer than an
// embedded queue may wait before its data is safe from a loss of power.
const Retain = 15 * time.Minute

// eventAge is how long the stream of events can be read again.
const eventAge = 7 * 24 * time.Hour

// openRelay prepares what carries messages from the outbox to the queue.
func (n *Node) openRelay(context.Context) error {
	n.streams = append(n.deps.Streams,
		queue.Stream{Name: "EVENTS", Subjects: []string{repo.StreamEvents + ".>"}, Retention: queue.Limits, Discard: queue.Oldest,
			MaxAge: eventAge, Duplicates: Retain, Replicas: n.cfg.NATS.Replicas},
		trail.Stream(n.cfg.NATS.Replicas, Retain))
	r, err := relay.New(n.Store, n.Queue, relay.Config{Owner: n.owner, Retain: Retain, Again: n.again(), Log: n.deps.Log, Metrics: n.deps.Metrics})
	n.carry = append(n.carry, lifecycle.Component{Name: "relay", Run: r.Run})
	return err
}

// again is how much of the latest messages a relay publishes again at a start: several times as
// long as the queue may wait before its data is safe from a loss of power. A server elsewhere
// waits for two minutes, unless it is told otherwise.
func (n *Node) again() time.Duration {
	if len(n.cfg.NATS.URL) > 0 {
		return 5 * time.Minute
	}
	return min(max(3*n.cfg.NATS.Sync, time.Minute), Retain)
}

// Events returns the events that happen, as a feed's source.
func (n *Node) Events() *queuefeed.Source {
	return queuefeed.New(n.Queue, n.epoch, queuefeed.Config{Labels: n.deps.EventLabels, Log: n.deps.Log})
}

// epoch names the stream of events that there is.
func (n *Node) epoch(ctx context.Context) (string, error) {
	at, err := n.created(ctx, "EVENTS")
	return feed.EpochOf(at), err
}

// openTrail prepares what takes audit entries into the log: a folder of its own,
// so that a copy can be verified as it is, or the bucket.
func (n *Node) openTrail(context.Context) error {
	key, err := audit.KeyFile(rand.Reader, n.file(n.cfg.Audit.KeyFile, "audit.key"), n.cfg.Audit.Origin)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.cfg.DataDir, "audit.pub"), []byte(key.Public().String()+"\n"), 0o644); err != nil {
		return fault.Wrap(fault.Internal, err, "the audit log's public key cannot be written beside its data")
	}
	open := func() (audit.Storage, func() error, error) {
		f, err := audit.OpenFolder(filepath.Join(n.cfg.DataDir, "audit"))
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	}
	cfg := trail.Config{Owner: n.owner, Slog: n.deps.Log}
	if strings.HasPrefix(n.cfg.Blob.URL, "s3:") {
		cfg.Shared = trail.Bucket(n.Blobs, "audit/log")
		open = func() (audit.Storage, func() error, error) { return cfg.Shared, func() error { return nil }, nil }
	}
	n.Trail = trail.New(n.Store, n.Queue, open, key, cfg)
	n.carry = append(n.carry, lifecycle.Component{Name: "audit", Run: n.Trail.Run})
	return nil
}

// expiring are the kinds of which things end by themselves; the empty one stands
// for the inbox.
func (n *Node) expiring() []string {
	return slices.Concat(directory.Expiring(), webhook.Expiring(), []string{"", idempotency.Kind}, n.deps.Expiring)
}
