package audit

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"sluice/internal/platform/fault"
)

// commit logs the calls' entries under one checkpoint and gives each call its
// indexes. The order of writes makes a crash harmless at any point: the batch
// decides, bundles and tiles follow from it, and the checkpoint, which is the
// only thing that readers go by, comes last.
func (l *Log) commit(ctx context.Context, calls []*call) error {
	if l.fenced != nil {
		return l.fenced
	}
	if l.tree == nil {
		if err := l.recover(ctx); err != nil {
			return err
		}
	}
	leaves, ids, err := l.assign(ctx, calls)
	if err != nil || len(leaves) == 0 {
		return err
	}
	if err := l.decide(ctx, batch{l.epoch, l.tree.size, leaves}); err != nil {
		return err
	}
	start := l.tree.size
	if err := l.publish(ctx, leaves); err != nil {
		return err
	}
	for i, id := range ids {
		l.recent.add(id, start+int64(i))
	}
	return nil
}

// assign finds the index of every entry, and returns those that are new.
func (l *Log) assign(ctx context.Context, calls []*call) (leaves [][]byte, ids []string, err error) {
	var unknown []string
	for _, c := range calls {
		for _, id := range c.ids {
			if _, ok := l.recent.index[id]; !ok {
				unknown = append(unknown, id)
			}
		}
	}
	var old map[string]int64
	if len(unknown) > 0 {
		if old, err = l.cfg.Known(ctx, unknown); err != nil {
			return nil, nil, err
		}
	}
	fresh := make(map[string]int64, len(unknown))
	for _, c := range calls {
		for i, id := range c.ids {
			index, ok := l.recent.index[id]
			if !ok {
				index, ok = old[id]
			}
			if ok && index >= l.tree.size {
				return nil, nil, damaged(fmt.Errorf("entry %s is known at index %d, but the log has %d entries: it was put back", id, index, l.tree.size))
			}
			if !ok {
				index, ok = fresh[id]
			}
			if !ok {
				index = l.tree.size + int64(len(leaves))
				fresh[id] = index
				leaves, ids = append(leaves, c.leaves[i]), append(ids, id)
			}
			c.indexes[i] = index
		}
	}
	return leaves, ids, nil
}

// decide makes b the batch that the log continues with, or fences this writer
// off where another one has decided. After another error nobody knows, and the
// next commit finds out.
func (l *Log) decide(ctx context.Context, b batch) error {
	data, err := b.encode(l.key)
	if err != nil {
		return err
	}
	if err := l.storage.Swap(ctx, pendingName, l.pending, data); err != nil {
		if fault.Is(err, fault.Conflict) {
			l.fence()
			return l.fenced
		}
		l.tried, l.tree = data, nil
		return err
	}
	l.pending, l.tried = data, nil
	return nil
}

func (l *Log) fence() {
	l.fenced = fault.New(fault.Conflict, "another process has opened the audit log %s: only the latest may write; stop it, or stop this one", l.key.name).WithCode("audit_second_writer")
}

// publish writes the files that the leaves add to or change, and signs. Where
// it fails the next commit publishes the same again.
func (l *Log) publish(ctx context.Context, leaves [][]byte) error {
	old, next := l.tree.size, l.tree.clone()
	l.tree = nil
	var objects []object
	emit := func(o object) { objects = append(objects, o) }
	for _, leaf := range leaves {
		next.add(leaf, emit)
	}
	next.rest(emit)
	if err := l.write(ctx, objects); err != nil {
		return err
	}
	root, err := next.root()
	if err != nil {
		return err
	}
	if err := l.publishCheckpoint(ctx, Checkpoint{l.key.name, next.size, root}); err != nil {
		return err
	}
	l.tree = next
	l.removeReplaced(ctx, objects, old)
	return nil
}

// write writes all at once: the flushes of one disk share its journal's, and
// requests to a bucket overlap.
func (l *Log) write(ctx context.Context, objects []object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, o := range objects {
		group.Go(func() error { return l.storage.Write(ctx, tileName(o.tile), o.data) })
	}
	return group.Wait()
}

func (l *Log) publishCheckpoint(ctx context.Context, c Checkpoint) error {
	signed, err := c.sign(l.keys())
	if err != nil {
		return err
	}
	if err := l.storage.Swap(ctx, checkpointName, l.signed, signed); err != nil {
		return err
	}
	l.setPublished(c, signed)
	return nil
}

func (l *Log) setPublished(c Checkpoint, signed []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now, l.signed = c, slices.Clone(signed)
}

// removeReplaced deletes the partial tiles that full ones replace, as
// tlog-tiles allows. What it leaves behind costs space and nothing else, so
// its errors are of no interest.
func (l *Log) removeReplaced(ctx context.Context, objects []object, old int64) {
	for _, o := range objects {
		if o.tile.W != width {
			continue
		}
		if names := replaced(o.tile, old); len(names) > 0 {
			_ = l.storage.Remove(ctx, names...)
		}
	}
}
