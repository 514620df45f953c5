package feed

import (
	"context"
	"sync"
	"time"

	"sluice/internal/platform/fault"
)

// Hub shares the readers of one source among consumers. Close it at the end.
type Hub struct {
	source  Source
	cfg     Config
	metrics *metrics
	spills  chan struct{} // a slot for each consumer that may read the source

	mu       sync.Mutex
	open     map[*Subscription]struct{}
	tenants  map[string]int // subscriptions of each
	pending  int            // admitted, not open yet
	channels map[channelKey]*channel
	draining chan struct{} // closed when clients shall leave
	closed   chan struct{} // closed when the others shall, too
	drained  bool
	idle     chan struct{} // closed, and replaced, when a subscription ends
	pumps    sync.WaitGroup
}

// NewHub returns a hub of the source, or for topics only without one.
func NewHub(source Source, cfg Config) (*Hub, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Hub{
		source: source, cfg: cfg, metrics: m, spills: make(chan struct{}, cfg.Spills),
		open: map[*Subscription]struct{}{}, tenants: map[string]int{}, channels: map[channelKey]*channel{},
		draining: make(chan struct{}), closed: make(chan struct{}), idle: make(chan struct{}),
	}, nil
}

// ErrDraining ends a subscription, or refuses one, because this process stops.
// Who resumes with its cursor, here or elsewhere, misses nothing.
var ErrDraining error = fault.New(fault.Unavailable, "this server is about to stop: connect again with the last cursor").
	WithCode("draining").WithRetryAfter(time.Second)

// Drain tells all consumers to leave, refuses new ones, and returns when the
// last has left or with ctx's error. Consumers of blocking topics stay until these
// end or the hub is closed: nobody else has what is left of them.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.drain()
	for len(h.open)+h.pending > 0 {
		idle := h.idle
		h.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
		h.mu.Lock()
	}
	h.mu.Unlock()
	return nil
}

// Close ends the readers. Subscriptions that are open end, too.
func (h *Hub) Close() {
	h.mu.Lock()
	h.drain()
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	for _, c := range h.channels {
		c.stop()
	}
	h.mu.Unlock()
	h.pumps.Wait()
}

// drain tells consumers to leave, once. Callers hold the lock.
func (h *Hub) drain() {
	if !h.drained {
		h.drained = true
		close(h.draining)
	}
}

// admit counts a subscription in, or says why not.
func (h *Hub) admit(tenant string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.drained:
		return ErrDraining
	case len(h.open)+h.pending >= h.cfg.MaxSubscriptions:
		return fault.New(fault.Unavailable, "the server is at its limit of %d streams", h.cfg.MaxSubscriptions).
			WithCode("streams_full").WithRetryAfter(5 * time.Second)
	case h.tenants[tenant] >= h.cfg.MaxPerTenant:
		return fault.New(fault.Exhausted, "this tenant has %d streams open, which is its limit: close some, or share one", h.cfg.MaxPerTenant).
			WithCode("streams_per_tenant").WithRetryAfter(5 * time.Second)
	}
	h.tenants[tenant]++
	h.pending++
	return nil
}

// release takes back what admit gave. Callers hold the lock.
func (h *Hub) release(tenant string) {
	if h.tenants[tenant]--; h.tenants[tenant] == 0 {
		delete(h.tenants, tenant)
	}
	close(h.idle)
	h.idle = make(chan struct{})
}

// Request asks for a subscription.
type Request struct {
	Filter Filter
	Topic  *Topic // read instead of the hub's source, if it is set
	Start  Start
	Strict bool // a cursor that is lost is fault.Gone, not a gap event
	Policy Policy
	// Credits delivers only what Grant allows.
	Credits   bool
	Expires   time.Time // when the credential ends; zero for never
	Transport string    // for metrics
}

// Subscribe opens a subscription, which has to be closed. Errors: fault.Invalid;
// fault.Exhausted and fault.Unavailable at a limit; fault.NotFound of what is not known; ErrEnded if nothing will
// follow the cursor; fault.Gone with code "cursor_lost" where it is strict.
func (h *Hub) Subscribe(ctx context.Context, r Request) (*Subscription, error) {
	s, err := h.subscribe(ctx, &r)
	if err != nil && err != ErrEnded { //nolint:errorlint // made here, never wrapped
		h.metrics.refused.WithLabelValues(fault.CodeOf(err)).Inc()
	}
	return s, err
}

func (h *Hub) subscribe(ctx context.Context, r *Request) (*Subscription, error) {
	if err := h.check(r); err != nil {
		return nil, err
	}
	if r.Topic == nil && r.Filter.Subject != "" && r.Start == (Start{}) && h.cfg.Known != nil {
		if err := h.cfg.Known(ctx, r.Filter.Kind, r.Filter.Subject); fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	if err := h.find(ctx, r); err != nil {
		return nil, err
	}
	if err := h.admit(r.Filter.Tenant); err != nil {
		return nil, err
	}
	s, err := h.place(ctx, r)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending--
	if err != nil {
		h.release(r.Filter.Tenant)
		return nil, err
	}
	h.open[s] = struct{}{}
	h.metrics.connections.WithLabelValues(r.Transport, string(s.policy)).Inc()
	return s, nil
}

func (h *Hub) check(r *Request) error {
	if r.Policy == "" {
		r.Policy = Spill
	}
	if err := r.Filter.Validate(); err != nil {
		return err
	}
	if r.Filter.Subject != "" && len(r.Filter.End) == 0 {
		r.Filter.End = h.cfg.End[r.Filter.Kind]
	}
	switch {
	case r.Topic == nil && h.source == nil:
		return fault.New(fault.Internal, "a feed was opened without a topic on a hub without a source")
	case r.Topic != nil && r.Topic.tenant != r.Filter.Tenant:
		return fault.New(fault.NotFound, "there is no such stream").WithCode("stream_not_found")
	case r.Policy == Block && (r.Topic == nil || !r.Topic.block):
		return invalid("slow=block is possible only for streams with a single consumer: choose spill")
	case r.Topic != nil && r.Topic.block && r.Policy != Block:
		r.Policy = Block // nobody else may read it, and it waits in any case
	}
	return nil
}

// place finds the ring and the position of a new subscription.
func (h *Hub) place(ctx context.Context, r *Request) (s *Subscription, err error) {
	s = newSubscription(h, r)
	if r.Topic != nil {
		s.ring, s.topic = r.Topic.ring, r.Topic
		if r.Topic.block && r.Topic.taken.Swap(true) {
			return nil, fault.New(fault.Conflict, "the stream has a consumer already, and takes only one").WithCode("stream_taken").WithRetryAfter(time.Second)
		}
	} else {
		if s.channel, err = h.join(ctx, &r.Filter); err != nil {
			return nil, err
		}
		s.ring, s.source = s.channel.ring, h.source
	}
	if err := s.begin(ctx, r); err != nil {
		s.detach()
		return nil, err
	}
	return s, nil
}
