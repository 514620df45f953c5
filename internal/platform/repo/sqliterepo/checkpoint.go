package sqliterepo

import (
	"time"

	"sluice/internal/platform/sqlite"
)

// checkpoints moves the write-ahead log into the file beside the writer, on a
// connection of its own: if a commit did it, as SQLite does by itself, all that
// wait would wait for the whole move, some ten times as long as for a commit.
//
// A log whose pages are all moved is begun anew; while commits follow each other
// some are always new. So the writer moves the last few itself, between two
// commits, once the log is long.
type checkpoints struct {
	conn    *conn
	metrics *metrics
	due     chan struct{}
	rest    chan func(*conn) // what the writer has to do between two commits
	quit    chan struct{}
	ended   chan struct{}

	jobs int // committed since the last move; the writer's alone
}

const (
	logJobs   = 400       // changesets, some 600 pages and more, after which the log is moved
	logLong   = 4000      // pages; one as long is begun anew
	logRest   = 200       // pages; so few the writer moves itself
	logLimit  = 16 * 1000 // pages; should all this fail, a commit moves them
	logPasses = 4         // until no more than logRest are left
)

func newCheckpoints(c *conn, m *metrics) *checkpoints {
	return &checkpoints{conn: c, metrics: m, due: make(chan struct{}, 1), rest: make(chan func(*conn)), quit: make(chan struct{}), ended: make(chan struct{})}
}

// grew is told by the writer how many changesets were committed.
func (c *checkpoints) grew(jobs int) {
	if c.jobs += jobs; c.jobs < logJobs {
		return
	}
	select {
	case c.due <- struct{}{}:
		c.jobs = 0
	default: // it is at it
	}
}

func (c *checkpoints) run() {
	defer close(c.ended)
	for {
		select {
		case <-c.due:
			c.move()
		case <-c.quit:
			return
		}
	}
}

// move moves the log. An error needs no answer: it comes again with the next
// commit, or it passes, and nothing but the log's length depends on it.
func (c *checkpoints) move() {
	began := time.Now()
	var l sqlite.Log
	for range logPasses {
		var err error
		if l, err = c.conn.Checkpoint(); err != nil {
			return
		}
		if l.Behind() <= logRest {
			break
		}
	}
	c.metrics.moved(l, time.Since(began))
	if l.Pages < logLong {
		return
	}
	select {
	case c.rest <- func(w *conn) { _, _ = w.Checkpoint() }:
	case <-c.quit:
	}
}

// stop ends it, and is called by the writer.
func (c *checkpoints) stop() error {
	close(c.quit)
	<-c.ended
	return c.conn.Close()
}
