package sorter

import (
	"container/heap"
	"io"

	"sluice/internal/batch/table"
)

// source has rows in their order, one at a time.
type source interface {
	// row returns where the present row is; false behind the last.
	row() (c *table.Chunk, row int, ok bool)
	next() error
}

// held is rows in memory.
type held struct {
	chunk *table.Chunk
	rows  []int
}

func (h *held) row() (*table.Chunk, int, bool) {
	if len(h.rows) == 0 {
		return nil, 0, false
	}
	return h.chunk, h.rows[0], true
}

func (h *held) next() error { h.rows = h.rows[1:]; return nil }

// merged is the rows of several sources, those of the first among equals first.
type merged struct {
	sources []source
	order   []int // a heap of the sources that have rows
	compare func(a *table.Chunk, i int, b *table.Chunk, j int) int
}

func (s *Sorter) merge(runs []*run) merged {
	m := merged{compare: s.compare}
	for _, r := range runs {
		m.sources = append(m.sources, r)
	}
	return m
}

// begin puts the sources in order.
func (m *merged) begin() error {
	for i, s := range m.sources {
		if r, ok := s.(*run); ok {
			if err := r.fetch(); err != nil {
				return err
			}
		}
		if _, _, ok := s.row(); ok {
			m.order = append(m.order, i)
		}
	}
	heap.Init(m)
	return nil
}

func (m *merged) row() (*table.Chunk, int, bool) {
	if len(m.order) == 0 {
		return nil, 0, false
	}
	return m.sources[m.order[0]].row()
}

func (m *merged) next() error {
	first := m.sources[m.order[0]]
	if err := first.next(); err != nil {
		return err
	}
	if _, _, ok := first.row(); !ok {
		heap.Pop(m)
		return nil
	}
	heap.Fix(m, 0)
	return nil
}

// read fills a chunk with about a block.
func (m *merged) read(into *table.Chunk) error {
	into.Reset()
	for into.Bytes() < blockSize {
		c, row, ok := m.row()
		if !ok {
			break
		}
		appendRow(into, c, row)
		if err := m.next(); err != nil {
			return err
		}
	}
	if into.Rows() == 0 {
		return io.EOF
	}
	return nil
}

// Len implements heap.Interface.
func (m *merged) Len() int { return len(m.order) }

// Less implements heap.Interface.
func (m *merged) Less(i, j int) bool {
	a, x, _ := m.sources[m.order[i]].row()
	b, y, _ := m.sources[m.order[j]].row()
	if c := m.compare(a, x, b, y); c != 0 {
		return c < 0
	}
	return m.order[i] < m.order[j]
}

// Swap implements heap.Interface.
func (m *merged) Swap(i, j int) { m.order[i], m.order[j] = m.order[j], m.order[i] }

// Push implements heap.Interface.
func (m *merged) Push(x any) { m.order = append(m.order, x.(int)) }

// Pop implements heap.Interface.
func (m *merged) Pop() any {
	last := len(m.order) - 1
	x := m.order[last]
	m.order = m.order[:last]
	return x
}
