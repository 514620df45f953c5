package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"sluice/internal/inference/oip"
	"sluice/internal/platform/access"
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

// live is a prediction that is answered as events. It has one consumer at a time,
// which it waits for.
type live struct {
	id, tenant string
	topic      *feed.Topic
	cancel     context.CancelFunc
	began      chan struct{} // closed when the first event is there, or failed is set

	// Guarded by the lives' lock.
	here   bool // somebody reads it
	over   bool
	failed error // before the first event; it does not change once began is closed
	timer  *time.Timer
}

// lives has all of them.
type lives struct {
	cfg     LiveConfig
	mu      sync.Mutex
	all     map[string]*live
	tenants map[string]int
	closed  bool
	running sync.WaitGroup
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
	case l.closed:
		return nil, errStop
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
		l.end(ctx, o, fault.Guard(func() error { return run(ctx, o) }))
		l.ended(o)
	})
	return o, nil
}

// makeRoom forgets, where a limit is reached, a prediction whose client has taken
// everything: it is kept only in case something was lost on the way. Callers hold
// the lock.
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

// end says how the prediction has ended: as an answer, where nothing was sent yet,
// or else as an event.
func (l *lives) end(ctx context.Context, o *live, err error) {
	select {
	case <-o.began:
		if err != nil {
			_ = o.put(ctx, feed.TypeError, failure(err)) // of what was cancelled nobody reads any more
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
	if o.cancel(); o.over { // else ended comes back to it
		l.forget(o)
	}
}

// come finds a prediction of the tenant for a client that comes back.
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

// leave is the end of a client's connection.
func (l *lives) leave(o *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.here = false
	l.later(o)
}

// close cancels all predictions and waits for them.
func (l *lives) close() {
	l.mu.Lock()
	l.closed = true
	for _, o := range l.all {
		o.cancel()
		if o.timer != nil {
			o.timer.Stop()
		}
	}
	l.mu.Unlock()
	l.running.Wait()
}

// started is the data of a stream's first event.
type started struct {
	ID      string            `json:"id"`
	Object  string            `json:"object"`
	Model   string            `json:"model"`
	Version string            `json:"version"`
	Digest  string            `json:"artifact_digest"`
	URLs    map[string]string `json:"urls"`
}

// output is the data of an event with a step's outputs.
type output struct {
	Step    int             `json:"step"`
	Outputs json.RawMessage `json:"outputs"`
}

// measured is the data of the event behind the last step.
type measured struct {
	Steps int    `json:"steps"`
	Ended string `json:"ended,omitempty"`
	Metrics
}

// narrate answers a prediction as server-sent events: start, an output for each
// step, metric, and end. Nothing is sent before the first step has succeeded.
func (a *API) narrate(w http.ResponseWriter, r *http.Request, prefix, text string) error {
	p, ok := access.From(r.Context())
	if !ok {
		return access.ErrNoCredential
	}
	account := a.memory.Account()
	defer account.Release()
	ahead := 2 * max(r.ContentLength, 0) // as it comes, and decoded
	if err := account.Acquire(ahead); err != nil {
		return err
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		return err
	}
	if err := account.Acquire(2*int64(body.Len()) - ahead); err != nil {
		return err
	}
	var in NewPrediction
	if err := decodeStrictly(body.Bytes(), &in); err != nil {
		return fault.New(fault.Invalid, "the body must be one JSON object of the known members: %s", fault.Clip(err.Error(), 80)).WithCode("body_invalid")
	}
	model, version := target(text)
	v, err := a.models.Lookup(model, version)
	if err != nil {
		return err
	}
	release, err := a.fetch(r.Context(), &in)
	if err != nil {
		return err
	}
	defer release()
	question, err := question(v, &in)
	if err != nil {
		return err
	}
	asked := a.memory.Account() // the prediction outlives the request
	if err := asked.Acquire(int64(len(question))); err != nil {
		return err
	}
	q := oip.Question{Model: model, Version: version, Body: question, Tenant: p.Tenant}
	o, err := a.lives.begin(r.Context(), p.Tenant, func(ctx context.Context, o *live) error {
		defer asked.Release()
		return a.relate(ctx, o, prefix, q)
	})
	if err != nil {
		asked.Release()
		return err
	}
	defer a.lives.leave(o)
	select {
	case <-o.began:
	case <-r.Context().Done():
		o.cancel()
		return fault.Of(r.Context().Err())
	}
	if o.failed != nil {
		return o.failed
	}
	return a.watch(w, r, o)
}

// relate has the model answer and puts what it says on the topic.
func (a *API) relate(ctx context.Context, o *live, prefix string, q oip.Question) error {
	defer a.models.Opened("sse")()
	var total measured
	err := oip.Steps(ctx, a.models, a.memory, q, nil, func(s oip.Answered) error {
		list, err := bare(s.Body)
		if err != nil {
			return err
		}
		if total.Steps == 0 {
			if err := o.put(ctx, "start", started{ID: o.id, Object: "stream", Model: q.Model, Version: s.Version, Digest: s.SHA256,
				URLs: map[string]string{"stream": prefix + "/streams/" + o.id + "/events"}}); err != nil {
				return err
			}
			o.start() // from here on the client takes what else there is, which may need room
		}
		total.Steps++
		total.Ended = s.Step.Ended
		total.BatchMS, total.InferMS, total.BatchSize = total.BatchMS+ms(s.Timing.Queue), total.InferMS+ms(s.Timing.Infer), s.Timing.BatchRows
		return o.put(ctx, "output", output{total.Steps, list})
	})
	if err != nil {
		return err
	}
	return o.put(ctx, "metric", total)
}

// watch sends the events of a topic to a client.
func (a *API) watch(w http.ResponseWriter, r *http.Request, o *live) error {
	return a.lives.cfg.Feeds.SSE(w, r, feedhttp.Target{Topic: o.topic, Oldest: true})
}

// Resume serves the events of a prediction that is answered as events to its
// client, which comes back with the id of the last event it got.
func (a *API) Resume(w http.ResponseWriter, r *http.Request, id string) error {
	p, ok := access.From(r.Context())
	if !ok {
		return access.ErrNoCredential
	}
	o, err := a.lives.come(p.Tenant, id)
	if err != nil {
		return err
	}
	defer a.lives.leave(o)
	return a.watch(w, r, o)
}
