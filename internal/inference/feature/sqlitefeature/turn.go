package sqlitefeature

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// turn is what processes with the same file know of each other: a file that is locked by who
// has stamped rows, until they are there, and says with which stamp. A process that ends
// leaves no lock.
type turn struct{ file *os.File }

func openTurn(path string) (*turn, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, broken(err)
	}
	return &turn{f}, nil
}

// Close is for who has left.
func (t *turn) Close() error { return t.file.Close() }

// take begins a turn, whose stamp must be made behind it. There is one at a time: they are
// within transactions of the file.
func (t *turn) take() error { return broken(lock(t.file)) }

// leave ends the turn.
func (t *turn) leave() { _ = unlock(t.file) } // it fails with the file alone, which ends the lock

func (t *turn) stamp(at time.Time) error {
	_, err := t.file.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(at.UnixMicro())), 0)
	return broken(err)
}

// poll is how often a turn of another process is looked at.
const poll = time.Millisecond

// reach waits while rows are under way that are stamped with a time, or an earlier one. Who
// takes a turn behind this has a later stamp than what was the time here.
func (t *turn) reach(ctx context.Context, asOf time.Time) error {
	if n := time.Now(); n.Before(asOf) {
		asOf = n
	}
	for {
		taken, err := locked(t.file)
		if err != nil || !taken {
			return broken(err)
		}
		at, err := t.stamped()
		if err != nil || at.After(asOf) {
			return broken(err)
		}
		if !pause.For(ctx, poll) {
			return ctx.Err()
		}
	}
}

// stamped returns the stamp of the latest turn; one that was only just taken has that of
// the turn before.
func (t *turn) stamped() (time.Time, error) {
	var b [8]byte
	if _, err := t.file.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return time.Time{}, err
	}
	return time.UnixMicro(int64(binary.LittleEndian.Uint64(b[:]))), nil
}

func broken(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Unavailable, err, "the file beside the feature store, by which processes take turns, cannot be used").WithCode("storage_failed").WithRetryAfter(time.Second)
}
