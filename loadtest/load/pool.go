package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// patience is how long after a run's end its last answers may arrive.
const patience = 10 * time.Second

// maxFailures is how many failures make a connection of a closed loop give
// up, so that a server that died is not hammered until the end of the run.
const maxFailures = 100

// Conn is a client that has one request at a time in progress. One goroutine
// uses it, but SetLimit may be called by others too.
type Conn interface {
	// Do sends a request and reads its answer, whose body is valid until the
	// next. After an error the connection is opened again at the next call.
	Do(*Request) (Answer, error)
	// SetLimit sets the time at which whatever is in progress fails.
	SetLimit(time.Time) error
	Close()
}

// Pool is a set of connections to one server. It runs one load at a time.
type Pool struct {
	conns []Conn
}

// NewPool returns a pool of connections of any kind, which Close closes.
func NewPool(conns ...Conn) *Pool { return &Pool{conns} }

// Dial opens the first of n connections to a server on a loopback address. The
// others are opened when they are first used, since servers close a connection
// that sends nothing.
func Dial(addr string, n int) (*Pool, error) {
	if err := loopback(addr); err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, fmt.Errorf("load: a pool needs at least one connection, not %d", n)
	}
	first := &conn{addr: addr}
	if err := first.dial(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	conns := []Conn{first}
	for range n - 1 {
		conns = append(conns, &conn{addr: addr})
	}
	return NewPool(conns...), nil
}

// Close closes the connections. No run may be in progress.
func (p *Pool) Close() {
	for _, c := range p.conns {
		c.Close()
	}
}

// One sends a single request and returns its answer, which stays valid until
// the pool's next request.
func (p *Pool) One(r *Request) (Answer, error) {
	c := p.conns[0]
	if err := c.SetLimit(time.Now().Add(patience)); err != nil {
		return Answer{}, err
	}
	return c.Do(r)
}

// Closed keeps every connection busy for the duration: each sends its next
// request as soon as it has the answer to the last. It returns when every
// answer is there, so whatever is measured around it covers all of Result.OK.
func (p *Pool) Closed(ctx context.Context, l Load, d time.Duration) *Result {
	start := time.Now()
	end := start.Add(d)
	total := p.run(ctx, l, start, end.Add(patience), func(w *worker) {
		for at := time.Now(); at.Before(end) && ctx.Err() == nil && w.res.Failed < maxFailures; {
			refused := w.res.Refused
			at = w.send(at)
			if l.Backoff > 0 && w.res.Refused > refused {
				time.Sleep(l.Backoff)
				at = time.Now()
			}
		}
	})
	total.Duration = time.Since(start)
	total.Window = total.Duration
	total.Due = total.OK + total.Refused + total.Failed
	return total
}

// run gives every connection a worker and merges what they saw. Good answers
// are counted between from and to; answers may arrive until some time later,
// and a cancelled context fails them at once.
func (p *Pool) run(ctx context.Context, l Load, from, to time.Time, work func(*worker)) *Result {
	workers := make([]*worker, len(p.conns))
	for i, c := range p.conns {
		workers[i] = newWorker(c, l, i)
		workers[i].from, workers[i].to = from, to
		if err := c.SetLimit(to.Add(patience)); err != nil {
			c.Close() // it is dialled again
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range p.conns {
			_ = c.SetLimit(time.Now()) // a closed connection needs no limit
		}
	})
	defer stop()

	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { work(w) })
	}
	wg.Wait()
	total := newResult()
	for _, w := range workers {
		total.Add(w.res)
	}
	return total
}

// worker drives one connection.
type worker struct {
	conn Conn
	load Load
	res  *Result
	sent int
	next int // request

	from, to time.Time // when good answers count
}

func newWorker(c Conn, l Load, i int) *worker {
	if l.CheckEvery == 0 {
		l.CheckEvery = 64
	}
	if l.SLO == 0 {
		l.SLO = 1<<63 - 1
	}
	if l.Status == 0 {
		l.Status = 200
	}
	return &worker{conn: c, load: l, res: newResult(), next: i % len(l.Requests)}
}

// send sends the next request, due at the given time, and counts its answer.
// It returns the time at which the answer was there.
func (w *worker) send(due time.Time) time.Time {
	r := w.load.Requests[w.next]
	if w.next++; w.next == len(w.load.Requests) {
		w.next = 0
	}
	a, err := w.do(r)
	now := time.Now()
	latency := now.Sub(due)
	if err == nil && a.Status == w.load.Status && r.Check != nil && w.sent%w.load.CheckEvery == 0 {
		w.res.Checked++
		err = r.Check(a)
	}
	w.sent++
	seen := Sample{Due: due, Latency: latency}
	switch {
	case err == nil && a.Status == w.load.Status:
		seen.Outcome, seen.Timing = OK, a.Timing
		w.res.OK++
		if latency <= w.load.SLO && !now.Before(w.from) && now.Before(w.to) {
			w.res.Good++
		}
		w.res.Latency.Record(latency)
		if !a.First.IsZero() {
			seen.First = a.First.Sub(due)
			w.res.First.Record(seen.First)
		}
	case err == nil && refusal(a):
		seen.Outcome = Refused
		w.res.Refused++
		w.res.Refusal.Record(latency)
	default:
		if err == nil {
			err = statusError(a)
		}
		seen.Outcome, seen.Err = Failed, err
		w.fail(err)
	}
	if w.load.Seen != nil {
		w.load.Seen(seen)
	}
	return now
}

// do sends a request, and a refused one again as often as the load says.
func (w *worker) do(r *Request) (Answer, error) {
	for retries := w.load.Retries; ; retries-- {
		a, err := w.conn.Do(r)
		if a.Redialled {
			w.res.Redialled++
		}
		if retries == 0 || err != nil || !refusal(a) {
			return a, err
		}
		w.res.Retried++
	}
}

// refusal reports whether an answer says that there is too much to do.
func refusal(a Answer) bool { return a.Status == 429 || a.Status == 503 }

func (w *worker) fail(err error) {
	w.res.Failed++
	if w.res.Err == nil {
		w.res.Err = err
	}
}
