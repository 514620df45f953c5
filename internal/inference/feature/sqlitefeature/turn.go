package sqlitefeature

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/sqlite"
)

// turn is what processes with the same file know of each other: a file that is locked by who
// has stamped rows, until they are there, and says with which stamp. A process that ends
// leaves no lock.
type turn struct {
	file     *os.File
	patience time.Duration // how long one process may hold up those that write
}

func openTurn(path string) (*turn, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, broken(err)
	}
	return &turn{f, 5 * time.Second}, nil
}

// Close is for who has left.
func (t *turn) Close() error { return t.file.Close() }

// take begins a turn, whose stamp must be made behind it. There is one at a time: they are
// within transactions of the file, so that another process is at most behind its commit, but
// may be stopped there.
func (t *turn) take(ctx context.Context) error {
	for start := time.Now(); ; {
		taken, err := lock(t.file)
		if err != nil || taken {
			return broken(err)
		}
		if waited := time.Since(start); waited >= t.patience {
			why := fmt.Errorf("%s has been locked for %s: lsof names the processes that have it open; end the one that is stopped or hangs", t.file.Name(), waited.Round(time.Millisecond))
			return fault.Wrap(fault.Unavailable, why, "another process holds up the feature store: try again").WithCode("store_busy").WithRetryAfter(time.Second)
		}
		if !pause.For(ctx, poll) {
			return ctx.Err()
		}
	}
}

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
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrClosed):
		return sqlite.ErrClosed
	}
	return fault.Wrap(fault.Unavailable, err, "the file beside the feature store, by which processes take turns, cannot be used").WithCode("storage_failed").WithRetryAfter(time.Second)
}
