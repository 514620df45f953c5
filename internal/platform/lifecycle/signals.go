package lifecycle

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Signals returns a context that ends with the first SIGINT or SIGTERM. By
// then signals act as they do by default, so that a second one ends the
// process at once. The caller calls stop when it is done.
func Signals(ctx context.Context) (_ context.Context, stop context.CancelFunc) {
	signalled, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(signalled, func() {
		restore()
		cancel()
	})
	return ctx, restore
}
