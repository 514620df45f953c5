package api

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"sluice/internal/inference/oip"
	"sluice/internal/inference/stream"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// input is an input of a WebSocket on its way: a stream.Item.
type input struct {
	socket  *socket
	ask     *inFrame
	own     *stream.Own // whose step it is, where it names no sequence
	steps   bool        // it is answered while it runs, when it is its turn
	failed  error       // before it came to anything
	answer  outFrame
	unsent  error // of a generation whose client takes no more
	account budget.Account
}

// Run implements stream.Item.
func (i *input) Run(ctx context.Context) error {
	if i.failed != nil || i.steps {
		return i.failed
	}
	return i.predict(ctx, i.keep)
}

// keep makes an answer the one that is to be sent, and counts what it takes.
func (i *input) keep(a oip.Answered) error {
	if err := i.account.Acquire(int64(len(a.Body))); err != nil {
		return err
	}
	return i.answer.output(a)
}

// predict has the model answer; emit gets each answer.
func (i *input) predict(ctx context.Context, emit func(oip.Answered) error) error {
	s := i.socket
	v, err := s.api.models.Lookup(s.model, s.version)
	if err != nil {
		return err
	}
	body, err := question(v, &i.ask.NewPrediction)
	if err != nil {
		return err
	}
	if err := i.account.Acquire(int64(len(body))); err != nil {
		return err
	}
	q := oip.Question{Model: s.model, Version: s.version, Body: body, Tenant: s.principal.Tenant, Header: s.header}
	return oip.Steps(withoutDeadline{ctx}, s.api.models, s.api.memory, q, i.own, emit)
}

// Send implements stream.Item.
func (i *input) Send(ctx context.Context, failed error) error {
	if failed == nil && i.steps {
		failed = fault.Guard(func() error {
			return i.predict(ctx, func(a oip.Answered) error {
				if err := i.keep(a); err != nil {
					return err
				}
				i.unsent = i.write(ctx)
				i.account.Return(int64(len(a.Body)))
				return i.unsent
			})
		})
		if failed == nil || i.unsent != nil {
			return i.unsent
		}
	}
	if failed != nil {
		i.answer.failed(failed)
	}
	return i.write(ctx)
}

// write sends the answer once there is credit for it.
func (i *input) write(ctx context.Context) error {
	b, err := json.Marshal(&i.answer)
	if err != nil {
		i.answer.failed(fault.Wrap(fault.Internal, err, "the answer cannot be written as JSON"))
		b, _ = json.Marshal(&i.answer) // texts always can be
	}
	if err := i.socket.credit.take(ctx); err != nil {
		return err
	}
	if !i.answer.More { // from here on the client may send another
		i.socket.unanswered.Add(-1)
	}
	return i.socket.write(b)
}

// Done implements stream.Item.
func (i *input) Done() { i.account.Release() }

// credit is how many answers a client takes. Nil takes any number.
type credit struct {
	mu   sync.Mutex
	left int64
	more chan struct{} // closed, and replaced, when there is more
}

func newCredit(n int64) *credit { return &credit{left: n, more: make(chan struct{})} }

func (c *credit) grant(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = min(c.left+n, 1<<40)
	close(c.more)
	c.more = make(chan struct{})
}

// out reports whether the client has to grant more first.
func (c *credit) out() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left == 0
}

// take waits until there is credit for one answer.
func (c *credit) take(ctx context.Context) error {
	for c != nil {
		c.mu.Lock()
		if c.left > 0 {
			c.left--
			c.mu.Unlock()
			return nil
		}
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return fault.Of(ctx.Err())
		}
	}
	return nil
}

// sockets counts the WebSockets that are open.
type sockets struct {
	mu      sync.Mutex
	open    int
	tenants map[string]int
	left    chan struct{} // closed when one ends, if somebody waits for that
}

// wait returns when none is open, or with ctx's error.
func (s *sockets) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.open == 0 {
			s.mu.Unlock()
			return nil
		}
		if s.left == nil {
			s.left = make(chan struct{})
		}
		left := s.left
		s.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *sockets) enter(tenant string, cfg *SocketConfig) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open >= cfg.MaxSockets:
		return nil, fault.New(fault.Unavailable, "the server is at its limit of %d streams", cfg.MaxSockets).WithCode("streams_full").WithRetryAfter(5 * time.Second)
	case s.tenants[tenant] >= cfg.MaxPerTenant:
		return nil, fault.New(fault.Exhausted, "this tenant has %d streams open, which is its limit: close some, or share one", cfg.MaxPerTenant).
			WithCode("streams_per_tenant").WithRetryAfter(5 * time.Second)
	}
	s.open++
	s.tenants[tenant]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if s.tenants[tenant]--; s.tenants[tenant] == 0 {
			delete(s.tenants, tenant)
		}
		if s.left != nil {
			close(s.left)
			s.left = nil
		}
	}, nil
}
