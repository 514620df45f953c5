package sqlite

import (
	"errors"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"

	"sluice/internal/platform/fault"
)

// ErrClosed is what everything fails with after Close.
var ErrClosed error = fault.New(fault.Unavailable, "the store is closed").WithCode("store_closed")

// Translate classifies an error of SQLite; others stay as they are.
func Translate(err error) error {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return err
	}
	full := e.Code == sqlite3.ErrFull || e.SystemErrno == syscall.ENOSPC || e.SystemErrno == syscall.EDQUOT
	switch {
	case full:
		return fault.Wrap(fault.Unavailable, err, "the store is full: make room on its disk, or raise its limit").WithCode("storage_full").WithRetryAfter(time.Minute)
	case e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked:
		return fault.Wrap(fault.Unavailable, err, "another process holds the store's lock: try again").WithCode("store_busy").WithRetryAfter(time.Second)
	case e.Code == sqlite3.ErrIoErr || e.Code == sqlite3.ErrCantOpen || e.Code == sqlite3.ErrReadonly || e.Code == sqlite3.ErrPerm || e.Code == sqlite3.ErrNomem:
		return fault.Wrap(fault.Unavailable, err, "the store's disk does not work as it should").WithCode("storage_failed").WithRetryAfter(time.Second)
	case e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB:
		return fault.Wrap(fault.Internal, err, "the store's file is damaged, or no store: restore it from a backup").WithCode("store_corrupt")
	case e.Code == sqlite3.ErrTooBig:
		return fault.Wrap(fault.TooLarge, err, "it is too large for the store").WithCode("too_large")
	default:
		return fault.Wrap(fault.Internal, err, "the store failed").WithCode("store_failed")
	}
}

// Taken says whether an insertion failed because a row with its primary key is there. It has
// changed nothing then, and a transaction goes on.
func Taken(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey
}
