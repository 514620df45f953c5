package queuefeed

import (
	"context"
	"iter"

	"sluice/internal/platform/queue"
)

// reader reads whatever queue there is now.
type reader struct{ *swap }

func (r reader) Read(ctx context.Context, read queue.Read) iter.Seq2[queue.Message, error] {
	return r.Load().Read(ctx, read)
}

func (r reader) Bounds(ctx context.Context, stream string) (queue.Bounds, error) {
	return r.Load().Bounds(ctx, stream)
}
