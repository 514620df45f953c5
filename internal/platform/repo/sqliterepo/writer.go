package sqliterepo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/sqlite"
)

// writer owns the one connection that writes, and commits in groups: all jobs
// that are waiting go into one transaction, so that they share its fsync. Jobs
// queue up by themselves while the disk is busy; the writer only waits for more
// where nobody needs what it has soon.
//
// A job first checks whether it may happen and refuses before it writes, so it
// needs no savepoint. Where one fails in the midst of writing, which is the
// disk's fault or a defect, the transaction is rolled back and its jobs run
// again, each in a transaction of its own: nobody was told anything yet.
type writer struct {
	conn    *conn
	batch   int
	metrics *metrics
	log     *checkpoints
	changed chan struct{}
	done    chan error

	mu     sync.RWMutex // held for writing by who closes queue
	closed bool
	queue  chan *job
}

// job is something to do in a transaction that others may share.
type job struct {
	// do returns why the job must not happen, before it has written anything; or
	// an error, after which what it has written has to be undone.
	do       func(*conn) (refused, failed error)
	messages bool // it adds messages to the outbox
	rides    bool // nobody needs it soon: it waits for a transaction that others want
	state    atomic.Int32
	outcome  chan error
	err      error // the outcome, until the commit
}

// What a job is.
const (
	waiting int32 = iota
	begun
	dropped // by who waited for it
)

func startWriter(c, mover *conn, cfg Config, m *metrics) *writer {
	w := &writer{conn: c, batch: cfg.Batch, metrics: m, log: newCheckpoints(mover, m), changed: make(chan struct{}, 1), done: make(chan error, 1), queue: make(chan *job, cfg.Queue)}
	go w.log.run()
	go w.loop()
	return w
}

// run does something in a transaction that fails as a whole.
func (w *writer) run(ctx context.Context, do func(*conn) error) error {
	return w.submit(ctx, &job{do: func(c *conn) (error, error) { return nil, do(c) }})
}

// ride is run for what nobody needs soon.
func (w *writer) ride(ctx context.Context, do func(*conn) error) error {
	return w.submit(ctx, &job{rides: true, do: func(c *conn) (error, error) { return nil, do(c) }})
}

// submit queues a job and waits for its outcome. A job that ctx ends before it
// has begun does not happen; one that has begun is waited for.
func (w *writer) submit(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.outcome = make(chan error, 1)
	if err := w.enqueue(j); err != nil {
		return err
	}
	select {
	case err := <-j.outcome:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(waiting, dropped) {
			return ctx.Err()
		}
		return <-j.outcome
	}
}

func (w *writer) enqueue(j *job) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return sqlite.ErrClosed
	}
	select {
	case w.queue <- j:
		w.metrics.depth.Set(float64(len(w.queue)))
		return nil
	default:
		return errBusy
	}
}

// stop does what is queued and closes the connection.
func (w *writer) stop() error {
	w.mu.Lock()
	w.closed = true
	close(w.queue)
	w.mu.Unlock()
	return <-w.done
}

func (w *writer) loop() {
	batch := make([]*job, 0, w.batch)
	for {
		select {
		case rest := <-w.log.rest:
			rest(w.conn)
		case j, open := <-w.queue:
			if !open {
				w.done <- sqlite.Translate(errors.Join(w.log.stop(), w.conn.Close()))
				return
			}
			batch = w.take(w.company(batch[:0], j))
			if len(batch) > 0 {
				w.commit(batch)
				w.log.grew(len(batch))
			}
			clear(batch)
		}
	}
}

// rideWait is how long what nobody needs soon waits for others at most.
const rideWait = 10 * time.Millisecond

// company begins a batch with a job. One that rides waits for another that does not:
// had it a transaction of its own, who comes meanwhile would wait for two.
func (w *writer) company(batch []*job, j *job) []*job {
	batch = begin(batch, j)
	if !j.rides {
		return batch
	}
	over := time.NewTimer(rideWait)
	defer over.Stop()
	for j.rides && len(batch) < w.batch {
		select {
		case next, open := <-w.queue:
			if !open {
				return batch
			}
			batch, j = begin(batch, next), next
		case <-over.C:
			return batch
		}
	}
	return batch
}

// take fills a batch with what is waiting now.
func (w *writer) take(batch []*job) []*job {
	for len(batch) < w.batch {
		select {
		case j, open := <-w.queue:
			if !open {
				return batch
			}
			batch = begin(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// begin adds a job to a batch, unless who waited for it has gone.
func begin(batch []*job, j *job) []*job {
	if j.state.CompareAndSwap(waiting, begun) {
		return append(batch, j)
	}
	return batch
}

// commit does jobs in one transaction and tells their outcomes.
func (w *writer) commit(batch []*job) {
	start := time.Now()
	if !w.together(batch) {
		for i := range batch {
			if !w.together(batch[i : i+1]) {
				panic("sqliterepo: a job alone has no outcome")
			}
		}
	}
	w.metrics.committed(len(batch), time.Since(start), len(w.queue))
	messages := false
	for _, j := range batch {
		messages = messages || j.messages && j.err == nil
		j.outcome <- j.err
	}
	if messages {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// together sets the outcomes of jobs that share a transaction. It returns false
// where one of several failed and nothing has happened.
func (w *writer) together(batch []*job) bool {
	if err := w.conn.Exec(newStatement("BEGIN IMMEDIATE")); err != nil {
		return w.fail(batch, sqlite.Translate(err))
	}
	for _, j := range batch {
		var failed error
		if j.err, failed = j.do(w.conn); failed != nil {
			w.rollback()
			return len(batch) == 1 && w.fail(batch, sqlite.Translate(failed))
		}
	}
	if err := w.conn.Exec(newStatement("COMMIT")); err != nil {
		w.rollback()
		return w.fail(batch, uncommitted(err))
	}
	return true
}

func (w *writer) fail(batch []*job, err error) bool {
	for _, j := range batch {
		j.err = err
	}
	return true
}

// rollback ends the transaction, unless SQLite has done so itself. Where it
// cannot, the next BEGIN fails and says why.
func (w *writer) rollback() {
	if w.conn.InTransaction() {
		_ = w.conn.Exec(newStatement("ROLLBACK"))
	}
}

// uncommitted says what a failed COMMIT means. After an error of the disk the
// log may hold the commit's last frame, which would count if the process ended
// before it is written over: nobody knows.
func uncommitted(err error) error {
	if e, ok := errors.AsType[sqlite3.Error](err); ok && e.Code == sqlite3.ErrIoErr {
		return fault.Wrap(fault.Unavailable, errors.Join(repo.ErrOutcomeUnknown, err), "%s", repo.ErrOutcomeUnknown.Message).WithCode(repo.ErrOutcomeUnknown.Code)
	}
	return sqlite.Translate(err)
}
