package dispatch

import (
	"context"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// holder watches over a lease. Its context is the handler's, and ends with the
// lease.
type holder struct {
	lease  Lease
	length time.Duration
	ctx    context.Context //nolint:containedctx // the handler's own, made here because the lease ends it
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	end   time.Time
	timer *time.Timer
}

// hold starts to watch over a lease that was granted just now.
func hold(ctx context.Context, lease Lease, length time.Duration) *holder {
	h := &holder{lease: lease, length: length - length/10}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	h.end = time.Now().Add(h.length)
	h.timer = time.AfterFunc(h.length, func() { h.cancel(queue.ErrLeaseLost) })
	return h
}

// held reports whether the lease has not run out.
func (h *holder) held() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.end)
}

// left returns how long the lease lasts.
func (h *holder) left() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Until(h.end)
}

// extend starts the lease anew, if it has not run out. It counts from before
// the request, as the queue may do.
func (h *holder) extend(ctx context.Context) error {
	if !h.held() {
		return LeaseLost()
	}
	began := time.Now()
	if err := h.lease.Extend(ctx); err != nil {
		if fault.Is(err, fault.Conflict) {
			h.lose()
		}
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.timer.Stop() { // it ran out while the queue was asked
		return LeaseLost()
	}
	h.end = began.Add(h.length)
	h.timer.Reset(time.Until(h.end))
	return nil
}

// lose ends the lease early: the queue says that it is another's.
func (h *holder) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end = time.Time{}
	h.timer.Stop()
	h.cancel(queue.ErrLeaseLost)
}

// release stops watching.
func (h *holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer.Stop()
	h.cancel(nil)
}

// LeaseLost returns the error for what came after a lease had run out.
func LeaseLost() error {
	return fault.New(fault.Conflict, "the lease of the message ran out before this; it may be with another consumer").WithCode("lease_lost")
}
