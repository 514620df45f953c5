package natsqueue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// durable is a durable consumer of the server, shared by its sources.
type durable struct {
	q      *Queue
	stream string
	cfg    jetstream.ConsumerConfig

	mu   sync.Mutex
	made jetstream.Consumer // nil until it is known to be there
}

// get finds the consumer, or makes or changes it if it has to be. A cluster
// leaves requests unanswered while it elects a leader, so they are short and
// repeated.
func (d *durable) get(ctx context.Context) (jetstream.Consumer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d.q.cfg.Timeout)
	defer cancel()
	for d.made == nil {
		c, err := d.find(ctx)
		if err != nil || !d.fits(c) {
			c, err = d.create(ctx)
		}
		if err != nil && (!unanswered(err) || ctx.Err() != nil) {
			return nil, settled(err)
		}
		d.made = c
	}
	return d.made, nil
}

func (d *durable) find(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return d.q.js.Consumer(ctx, d.stream, d.cfg.Durable)
}

// fits reports whether a consumer that was found is as it should be: a change
// that changes nothing costs a cluster a round of consensus, too.
func (d *durable) fits(c jetstream.Consumer) bool {
	is := c.CachedInfo().Config
	if len(is.FilterSubjects) == 0 {
		is.FilterSubjects = []string{is.FilterSubject} // the server's form of a single one
	}
	return slices.Equal(is.FilterSubjects, d.cfg.FilterSubjects) && is.AckWait == d.cfg.AckWait &&
		is.MaxAckPending == d.cfg.MaxAckPending && is.MaxDeliver == d.cfg.MaxDeliver
}

func (d *durable) create(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return d.q.js.CreateOrUpdateConsumer(ctx, d.stream, d.cfg)
}

// forget has the consumer looked for again.
func (d *durable) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made = nil
}

func unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}
