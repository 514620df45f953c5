package api

import (
	"context"
	"sync"
	"time"

	"sluice/internal/platform/fault"
)

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
