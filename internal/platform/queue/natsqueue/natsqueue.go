// Package natsqueue is the queue on NATS JetStream: on a server within this
// process (Start), or on a server or cluster elsewhere.
//
// A message of the subject s is stored under "q.<lane>.s", where the lane is a
// hash of s. An ordered consumer is one durable consumer for each lane that
// has one message out at a time, so that order holds over processes, crashes
// and retries; any other is one durable consumer, from which each free handler
// pulls one message. Dead letters live in the stream "<name>_DEAD" under
// "dead.<name>.<consumer>.<message id>", one message for each subject, so that
// burying twice leaves one.
//
// What the server does not do for us (measured with nats-server 2.15): it
// accepts the settlement of a lease that ran out, so package dispatch keeps
// the lease; it ignores BackOff on a plain Nak, so every one has a delay; it
// leaves a message at MaxDeliver lying, so attempts are counted here and
// MaxDeliver is unlimited; a core publish to a full stream is lost silently,
// so each message's acknowledgement is awaited.
//
// Known limits: publishers that are not this package have to know the lanes.
// Messages of one subject in one batch are stored one round trip after the
// other. An ordered consumer handles at most one message for each of its eight
// lanes and round trip. On a work stream the server forgets the duplicate
// window when it restarts. Dead letters are listed one request for each.
package natsqueue

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// Config says where the queue is and how to use it. Either Server or URLs is
// needed.
type Config struct {
	Server *Server  // in this process
	URLs   []string // nats://host:port or tls://host:port, of one cluster
	Name   string   // of the connection, in the server's monitoring; default "sluice"
	TLS    TLS
	Login  Login

	// Replicas is how many servers of a cluster keep a stream that does not
	// say otherwise; default 1.
	Replicas int
	// Timeout bounds each request to the server, and the wait for
	// acknowledgements of a batch; default 5s.
	Timeout time.Duration
	// MaxPending is how many messages may await their acknowledgement; more
	// wait a moment, then fail with "queue_full". Default 4096.
	MaxPending int

	Metrics *queue.Metrics // nil counts for nobody
	Log     *slog.Logger   // nil discards
}

// Queue is a connection to JetStream.
type Queue struct {
	cfg        Config
	conn       *nats.Conn
	js         jetstream.JetStream
	closed     chan struct{}
	close      func()
	reconnects atomic.Uint64
}

var _ queue.Queue = (*Queue)(nil)

// Open connects. It returns with an error only if the configuration is wrong:
// a server that cannot be reached is tried for ever, and Healthy tells.
func Open(cfg Config) (*Queue, error) {
	cfg.Name = cmp.Or(cfg.Name, "sluice")
	cfg.Replicas = cmp.Or(cfg.Replicas, 1)
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	cfg.MaxPending = cmp.Or(cfg.MaxPending, 4096)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		m, err := queue.NewMetrics(nil)
		if err != nil {
			return nil, err
		}
		cfg.Metrics = m
	}
	q := &Queue{cfg: cfg, closed: make(chan struct{})}
	q.close = sync.OnceFunc(func() { close(q.closed) })
	if err := q.connect(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(q.conn,
		jetstream.WithDefaultTimeout(cfg.Timeout),
		jetstream.WithPublishAsyncMaxPending(cfg.MaxPending),
		jetstream.WithPublishAsyncTimeout(cfg.Timeout))
	if err != nil {
		q.conn.Close()
		return nil, translate(err)
	}
	q.js = js
	return q, nil
}

// Close ends the connection. Consumers have to be stopped before. Who publishes
// is told that the outcome is unknown.
//
// It leaves out the library's own CleanupPublisher, which leaks a goroutine where the
// first message was published just before.
func (q *Queue) Close() {
	q.close()
	q.conn.Close()
}

// Reconnects counts how often the connection was lost and found again.
func (q *Queue) Reconnects() uint64 { return q.reconnects.Load() }

// Healthy implements queue.Admin: it asks JetStream, which a cluster without
// a leader does not answer.
func (q *Queue) Healthy(ctx context.Context) error {
	if !q.conn.IsConnected() {
		return disconnected(nil)
	}
	if q.cfg.Server != nil && q.cfg.Server.failing.Load() {
		return unwritable()
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	_, err := q.js.AccountInfo(ctx)
	if fault.Is(err, fault.DeadlineExceeded) {
		return disconnected(err)
	}
	return translate(err)
}
