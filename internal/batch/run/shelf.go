package run

import (
	"bytes"
	"sync"
	"time"

	"sluice/internal/batch/ingest"
)

// memory is what one chunk after the other is read into, and what its results are
// written to: tens of megabytes.
type memory struct {
	chunk ingest.Chunk
	text  bytes.Buffer
}

// keeping is how long memory is kept that nobody takes.
const keeping = 5 * time.Second

// shelf has the memory that turns leave to those after them. Left to the collector, each
// turn's would be garbage of that size, and the heap have its holes. A sync.Pool often does
// not find what another processor has put into it.
type shelf struct {
	mu    sync.Mutex
	free  []*memory
	empty *time.Timer // forgets them; nil until there were some
}

// take returns memory that nobody else has.
func (s *shelf) take() *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.free)
	if n == 0 {
		return &memory{}
	}
	m := s.free[n-1]
	s.free[n-1] = nil
	s.free = s.free[:n-1]
	return m
}

// put leaves memory to others, as long as somebody comes for some now and then.
func (s *shelf) put(m *memory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, m)
	if s.empty == nil {
		s.empty = time.AfterFunc(keeping, s.clear)
	} else {
		s.empty.Reset(keeping)
	}
}

func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = nil
}
