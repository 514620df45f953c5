package api

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedhttp"
)

// LiveConfig holds the limits of predictions that are answered as events; zero
// values have the defaults.
type LiveConfig struct {
	// Feeds serves their events; nil offers none.
	Feeds *feedhttp.Handler
	// Grace is how long a client may be away before its prediction is cancelled,
	// and Keep how long the events of one that has ended can be read; default 10s
	// and 1m.
	Grace, Keep  time.Duration
	MaxLive      int // kept at once, of all tenants; default 1,000
	MaxPerTenant int // default 100
}

func (c LiveConfig) resolve() LiveConfig {
	c.Grace = cmp.Or(c.Grace, 10*time.Second)
	c.Keep = cmp.Or(c.Keep, time.Minute)
	c.MaxLive = cmp.Or(c.MaxLive, 1000)
	c.MaxPerTenant = cmp.Or(c.MaxPerTenant, 100)
	return c
}

// live is a prediction that is answered as events. It has one consumer at a time, whom it
// does not run ahead of.
type live struct {
	id, tenant string
	topic      *feed.Topic
	cancel     context.CancelFunc
	began      chan struct{} // closed when the first event is there, or failed is set

	// Guarded by the lives' lock.
	here   bool  // it has a consumer
	over   bool  // it has ended
	failed error // before the first event; it does not change once began is closed
	timer  *time.Timer
}

// lives has all of them.
type lives struct {
	cfg     LiveConfig
	mu      sync.Mutex
	all     map[string]*live
	tenants map[string]int
	// Nothing begins while they drain, and all are cancelled once they are closed.
	draining, closed bool
	running          sync.WaitGroup
}

func newLives(cfg LiveConfig) *lives {
	return &lives{cfg: cfg.resolve(), all: map[string]*live{}, tenants: map[string]int{}}
}

// begin runs a prediction on a topic of its own.
func (l *lives) begin(ctx context.Context, tenant string, run func(ctx context.Context, o *live) error) (*live, error) {
	name := strings.ReplaceAll(uuid.Must(uuid.NewV7()).String(), "-", "")
	topic, err := feed.NewTopic(name, feed.TopicConfig{Tenant: tenant, Block: true})
	if err != nil {
		return nil, err
	}
	o := &live{id: "str_" + name, tenant: tenant, topic: topic, began: make(chan struct{}), here: true}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.makeRoom(tenant)
	switch {
	case l.draining:
		return nil, errDraining
	case len(l.all) >= l.cfg.MaxLive:
		return nil, fault.New(fault.Unavailable, "the server is at its limit of %d streams", l.cfg.MaxLive).WithCode("streams_full").WithRetryAfter(5 * time.Second)
	case l.tenants[tenant] >= l.cfg.MaxPerTenant:
		return nil, fault.New(fault.Exhausted, "this tenant has %d streams, which is its limit", l.cfg.MaxPerTenant).WithCode("streams_per_tenant").WithRetryAfter(5 * time.Second)
	}
	l.all[o.id] = o
	l.tenants[tenant]++
	// The prediction outlives the request: its client may come back.
	ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.running.Go(func() {
		defer o.cancel()
		l.end(o, fault.Guard(func() error { return run(ctx, o) }))
		l.ended(o)
	})
	return o, nil
}

// makeRoom forgets a finished prediction whose client has taken everything, if a limit is
// reached: it was kept only in case something was lost on the way. Callers hold the lock.
func (l *lives) makeRoom(tenant string) {
	own := l.tenants[tenant] >= l.cfg.MaxPerTenant
	if !own && len(l.all) < l.cfg.MaxLive {
		return
	}
	for _, o := range l.all {
		if o.over && !o.here && o.topic.Taken() && (!own || o.tenant == tenant) {
			l.forget(o)
			return
		}
	}
}

// forget removes a prediction that is over. Callers hold the lock.
func (l *lives) forget(o *live) {
	if o.timer != nil {
		o.timer.Stop()
	}
	delete(l.all, o.id)
	if l.tenants[o.tenant]--; l.tenants[o.tenant] == 0 {
		delete(l.tenants, o.tenant)
	}
}

// put adds an event.
func (o *live) put(ctx context.Context, kind string, data any) error {
	b, err := json.Marshal(data)
	if err == nil {
		_, err = o.topic.Append(ctx, kind, "", b)
	}
	return err
}

// start says that the first event is there.
func (o *live) start() {
	select {
	case <-o.began:
	default:
		close(o.began)
	}
}

// end tells the client how the prediction has ended: by an event or, where none was sent
// yet, by the answer to its request.
func (l *lives) end(o *live, err error) {
	l.mu.Lock()
	if l.closed && err != nil {
		err = errDraining
	}
	l.mu.Unlock()
	select {
	case <-o.began:
		if err != nil {
			why, _ := json.Marshal(failure(err)) // it always can be
			o.topic.Fail(why)
			return
		}
	default:
		l.mu.Lock()
		o.failed = err
		l.mu.Unlock()
		close(o.began)
	}
	o.topic.End()
}

func failure(err error) *Failure {
	e := fault.Of(err)
	return &Failure{fault.CodeOf(err), e.Text(), e.Kind.Retryable()}
}

// ended keeps a prediction that has ended for those who come back.
func (l *lives) ended(o *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.over = true
	if !o.here {
		l.later(o)
	}
}

// later forgets a prediction after a while, or cancels it. Callers hold the lock.
func (l *lives) later(o *live) {
	wait := l.cfg.Grace
	if o.over {
		wait = l.cfg.Keep
	}
	if l.closed || o.failed != nil {
		wait = 0
	}
	if o.timer != nil {
		o.timer.Stop()
	}
	o.timer = time.AfterFunc(wait, func() { l.timeout(o) })
}

func (l *lives) timeout(o *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.here || l.all[o.id] != o {
		return
	}
	if o.cancel(); o.over { // else ended sets the timer again
		l.forget(o)
	}
}

// come gives a client that comes back its prediction.
func (l *lives) come(tenant, id string) (*live, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.all[id]
	switch {
	case o == nil || o.tenant != tenant:
		return nil, fault.New(fault.NotFound, "there is no such stream: it may have ended a while ago, or be another server's").WithCode("stream_not_found")
	case o.here:
		return nil, fault.New(fault.Conflict, "the stream has a consumer already, and takes only one").WithCode("stream_taken").WithRetryAfter(time.Second)
	}
	o.here = true
	return o, nil
}

// leave notes that a client's connection has ended.
func (l *lives) leave(o *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.here = false
	l.later(o)
}

// errDraining ends predictions that are answered as events.
var errDraining error = fault.New(fault.Unavailable, "the server stops: send the prediction again, to another server or after a moment").
	WithCode("draining").WithRetryAfter(time.Second)

// farewell is how long before the end of a drain predictions are cancelled.
const farewell = time.Second

// drain begins no more predictions and waits for those that run. Shortly before ctx
// ends it cancels them.
func (l *lives) drain(ctx context.Context) error {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	done := make(chan struct{})
	go func() { l.running.Wait(); close(done) }()
	early := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		early, cancel = context.WithDeadline(ctx, end.Add(-min(farewell, time.Until(end)/2)))
		defer cancel()
	}
	select {
	case <-done:
		return nil
	case <-early.Done():
	}
	l.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close cancels all predictions and waits for them.
func (l *lives) close() {
	l.cancel()
	l.running.Wait()
}

func (l *lives) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining, l.closed = true, true
	for _, o := range l.all {
		o.cancel()
		if o.timer != nil {
			o.timer.Stop()
		}
	}
}
