package batcher

import "time"

// A task is in up to two heaps at a time; each keeps the task's place in it in
// ticket.at, so that any task is removed in O(log n).
const (
	byOrder = iota // within its bucket, by order of service
	byDue          // among all online tasks, by deadline
	heaps
)

// heap is a binary min-heap of tasks by key, and by arrival among equal keys.
type heap[T any] struct {
	which int // byOrder or byDue
	nodes []node[T]
}

type node[T any] struct {
	key time.Duration
	seq uint64
	t   *Task[T]
}

func (h *heap[T]) len() int       { return len(h.nodes) }
func (h *heap[T]) head() *Task[T] { return h.nodes[0].t }

func (h *heap[T]) push(key time.Duration, t *Task[T]) {
	h.nodes = append(h.nodes, node[T]{key, t.seq, t})
	h.up(len(h.nodes) - 1)
}

// remove takes t, which must be in the heap, out of it.
func (h *heap[T]) remove(t *Task[T]) {
	i, last := t.at[h.which], len(h.nodes)-1
	moved := h.nodes[last]
	h.nodes[last] = node[T]{}
	h.nodes = h.nodes[:last]
	if i < last {
		h.nodes[i] = moved
		moved.t.at[h.which] = i
		h.down(i)
		h.up(moved.t.at[h.which])
	}
}

func (a node[T]) before(b node[T]) bool {
	return a.key < b.key || a.key == b.key && a.seq < b.seq
}

func (h *heap[T]) up(i int) {
	n := h.nodes[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !n.before(h.nodes[parent]) {
			break
		}
		h.place(i, h.nodes[parent])
		i = parent
	}
	h.place(i, n)
}

func (h *heap[T]) down(i int) {
	n := h.nodes[i]
	for {
		child := 2*i + 1
		if child >= len(h.nodes) {
			break
		}
		if child+1 < len(h.nodes) && h.nodes[child+1].before(h.nodes[child]) {
			child++
		}
		if !h.nodes[child].before(n) {
			break
		}
		h.place(i, h.nodes[child])
		i = child
	}
	h.place(i, n)
}

func (h *heap[T]) place(i int, n node[T]) {
	h.nodes[i] = n
	n.t.at[h.which] = i
}
