package sqlite

import (
	"context"
	"fmt"
)

// Log is the write-ahead log, in pages of PageSize.
type Log struct {
	Pages int // that it has
	Moved int // of these, those that are in the file, too
}

// Behind returns how many pages are in the log alone.
func (l Log) Behind() int { return l.Pages - l.Moved }

// Checkpointer opens a connection whose only purpose is Checkpoint.
func Checkpointer(path string, o Options) (*Conn, error) {
	o = o.withDefaults()
	return connect(path, fmt.Sprintf(both+"PRAGMA synchronous = FULL;", o.Patience.Milliseconds()))
}

// Checkpoint moves as much of the log into the file as it can without waiting for
// anybody, and without holding up who writes or reads meanwhile. Where it has moved
// all, the next commit begins the log anew, unless somebody still reads from it.
// While another connection does the same it does nothing, and returns no pages.
// See https://www.sqlite.org/c3ref/wal_checkpoint_v2.html, SQLITE_CHECKPOINT_PASSIVE.
func (c *Conn) Checkpoint() (l Log, err error) {
	err = c.Query(context.Background(), New("PRAGMA wal_checkpoint(PASSIVE)"), func(row []Value) error {
		pages, _ := row[1].(int64)
		moved, _ := row[2].(int64)
		l = Log{int(max(pages, 0)), int(max(moved, 0))}
		return nil
	})
	return l, err
}
