package oipgrpc

import (
	"sync/atomic"
	"time"

	"sluice/internal/platform/fault"
)

// memory bounds the bytes of all requests that are being served, so that many
// large ones at once are refused rather than taken together. A request of any
// size is taken by a server that holds nothing else.
type memory struct {
	limit int64
	held  atomic.Int64
}

// acquire counts n bytes; on failure, too: the caller releases them in the end.
func (m *memory) acquire(n int64) error {
	if held := m.held.Add(n); held > m.limit && held != n {
		return fault.New(fault.Unavailable, "the server already holds %d bytes of requests, of at most %d", held-n, m.limit).
			WithCode("request_memory_full").WithRetryAfter(time.Second)
	}
	return nil
}

func (m *memory) release(n int64) { m.held.Add(-n) }
