package node

import (
	"context"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// mendInterval is how often it is looked whether the queue still has its streams.
const mendInterval = 10 * time.Second

// mend makes streams again that the queue has lost, with all that was in them,
// until ctx ends: the store has what is worth sending again.
func (n *Node) mend(ctx context.Context) error {
	for pause.For(ctx, mendInterval); ctx.Err() == nil; pause.For(ctx, mendInterval) {
		for _, s := range n.streams {
			if _, err := n.Queue.Bounds(ctx, s.Name); !fault.Is(err, fault.NotFound) {
				continue // it is there, or cannot be asked for now
			}
			n.deps.Log.ErrorContext(ctx, "the queue has lost a stream with all that was in it; it is made again", "stream", s.Name)
			if err := n.Queue.Ensure(ctx, s); err != nil && ctx.Err() == nil {
				n.deps.Log.WarnContext(ctx, "a stream could not be made; that is tried again", "stream", s.Name, "error", err)
			}
		}
	}
	return nil
}
