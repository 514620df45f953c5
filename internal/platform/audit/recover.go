package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"sluice/internal/platform/fault"
)

// open loads the log's state, finishes the batch decided last, and takes over:
// it decides an empty batch of a higher epoch, which no earlier writer expects.
func (l *Log) open(ctx context.Context) error {
	if err := l.load(ctx); err != nil {
		return err
	}
	l.recent = newRecent(l.cfg.Recent)
	if err := l.loadRecent(ctx); err != nil {
		return err
	}
	l.epoch++
	if err := l.decide(ctx, batch{epoch: l.epoch, start: l.tree.size}); err != nil {
		return err
	}
	return l.signAgain(ctx)
}

// recover finds out what became of a commit that ended unknown, and finishes
// it. Nobody else can have written since, or this writer is fenced off.
func (l *Log) recover(ctx context.Context) error {
	stored, err := l.readMaybe(ctx, pendingName)
	if err != nil {
		return err
	}
	if !bytes.Equal(stored, l.pending) && (l.tried == nil || !bytes.Equal(stored, l.tried)) {
		l.fence()
		return l.fenced
	}
	if err := l.load(ctx); err != nil {
		return err
	}
	return l.loadRecent(ctx)
}

// load reads the checkpoint, the right edge of its tree and the batch decided
// last, and publishes that where it is not part of the tree yet.
func (l *Log) load(ctx context.Context) error {
	signed, pending, err := l.readState(ctx)
	if err != nil {
		return err
	}
	if signed == nil {
		if pending != nil {
			return damaged(errors.New("there is a batch but no checkpoint"))
		}
		return l.begin(ctx)
	}
	c, err := ParseCheckpoint(signed, l.trusted()...)
	if err != nil {
		return damaged(err)
	}
	tree, err := loadTree(c.tree(), l.reader(ctx))
	if err != nil {
		return err
	}
	l.tree = tree
	l.setPublished(c, signed)
	return l.finish(ctx, pending)
}

// readState reads the checkpoint and the batch decided last. The two belong
// together if nobody decided another one in the meantime.
func (l *Log) readState(ctx context.Context) (signed, pending []byte, err error) {
	before, err := l.readMaybe(ctx, pendingName)
	if err != nil {
		return nil, nil, err
	}
	if signed, err = l.readMaybe(ctx, checkpointName); err != nil {
		return nil, nil, err
	}
	if pending, err = l.readMaybe(ctx, pendingName); err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(before, pending) {
		return nil, nil, errSwapped(pendingName)
	}
	return signed, pending, nil
}

// begin publishes the checkpoint of an empty log.
func (l *Log) begin(ctx context.Context) error {
	tree := new(tree)
	root, err := tree.root()
	if err != nil {
		return err
	}
	if err := l.publishCheckpoint(ctx, Checkpoint{l.key.name, 0, root}); err != nil {
		return err
	}
	l.tree = tree
	return nil
}

func (l *Log) finish(ctx context.Context, pending []byte) error {
	l.pending, l.tried = pending, nil
	if pending == nil {
		return nil
	}
	b, err := decodeBatch(pending, l.trusted())
	if err != nil {
		return damaged(err)
	}
	l.epoch = max(l.epoch, b.epoch)
	switch l.tree.size {
	case b.end():
		return nil
	case b.start:
		return l.publish(ctx, b.leaves)
	}
	return damaged(fmt.Errorf("the checkpoint is of size %d, the batch decided last goes from %d to %d: one of the two was put back", l.tree.size, b.start, b.end()))
}

// signAgain adds the signatures of keys that have not signed the checkpoint.
func (l *Log) signAgain(ctx context.Context) error {
	c, n, err := openCheckpoint(l.Checkpoint(), l.trusted())
	if err != nil {
		return damaged(err)
	}
	for _, k := range l.keys() {
		if !slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Hash == k.KeyHash() }) {
			return l.publishCheckpoint(ctx, c)
		}
	}
	return nil
}

func (l *Log) reader(ctx context.Context) reader {
	return func(name string) ([]byte, error) { return l.storage.Read(ctx, name) }
}

// readMaybe returns nil where the object does not exist.
func (l *Log) readMaybe(ctx context.Context, name string) ([]byte, error) {
	data, err := l.storage.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// damaged marks what only somebody's hands or a broken disk can have done.
func damaged(err error) error {
	return fault.Wrap(fault.Internal, err, "the audit log is damaged: keep it as it is, verify a copy, and restore the files that the report names").WithCode("audit_log_damaged")
}
