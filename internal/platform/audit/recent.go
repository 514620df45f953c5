package audit

import "context"

// recent knows the indexes of the last entries by id.
type recent struct {
	index map[string]int64
	ids   []string // of entry i at i modulo the length
	next  int64    // index of the entry after the last one added
}

func newRecent(n int) *recent {
	return &recent{index: make(map[string]int64), ids: make([]string, n)}
}

// add remembers an entry in place of the one that is too old by now. Entries
// come in the order of their indexes.
func (r *recent) add(id string, index int64) {
	place := &r.ids[index%int64(len(r.ids))]
	if r.index[*place] == index-int64(len(r.ids)) {
		delete(r.index, *place)
	}
	*place, r.index[id], r.next = id, index, index+1
}

// loadRecent reads the last entries that are not remembered yet.
func (l *Log) loadRecent(ctx context.Context) error {
	size := l.tree.size
	from := max(l.recent.next, size-int64(len(l.recent.ids)))
	return l.reader(ctx).leaves(from, size, func(index int64, leaf []byte) error {
		e, err := Decode(leaf)
		if err != nil {
			return damaged(err)
		}
		l.recent.add(e.ID, index)
		return nil
	})
}
