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

// Pool is a set of connections to one server. It runs one load at a time.
type Pool struct {
	conns []*conn
}

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
	p := &Pool{conns: make([]*conn, n)}
	for i := range p.conns {
		p.conns[i] = &conn{addr: addr}
	}
	if err := p.conns[0].dial(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return p, nil
}

// Close closes the connections. No run may be in progress.
func (p *Pool) Close() {
	for _, c := range p.conns {
		c.close()
	}
}

// One sends a single request and returns its answer, which stays valid until
// the pool's next request.
func (p *Pool) One(r *Request) (Answer, error) {
	c := p.conns[0]
	if err := c.setLimit(time.Now().Add(patience)); err != nil {
		return Answer{}, err
	}
	return c.do(r.Wire)
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
		if err := c.setLimit(to.Add(patience)); err != nil {
			c.close() // it is dialled again
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range p.conns {
			_ = c.setLimit(time.Now()) // a closed connection needs no limit
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
		w.res.Redialled = w.conn.redialled
		w.conn.redialled = 0
		total.Add(w.res)
	}
	return total
}

// worker drives one connection.
type worker struct {
	conn *conn
	load Load
	res  *Result
	sent int
	next int // request

	from, to time.Time // when good answers count
}

func newWorker(c *conn, l Load, i int) *worker {
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
	a, err := w.conn.do(r.Wire)
	now := time.Now()
	latency := now.Sub(due)
	if err == nil && a.Status == w.load.Status && r.Check != nil && w.sent%w.load.CheckEvery == 0 {
		w.res.Checked++
		err = r.Check(a)
	}
	w.sent++
	switch {
	case err == nil && a.Status == w.load.Status:
		w.res.OK++
		if latency <= w.load.SLO && !now.Before(w.from) && now.Before(w.to) {
			w.res.Good++
		}
		w.res.Latency.Record(latency)
	case err == nil && (a.Status == 429 || a.Status == 503):
		w.res.Refused++
		w.res.Refusal.Record(latency)
	default:
		if err == nil {
			err = statusError(a)
		}
		w.fail(err)
	}
	return now
}

func (w *worker) fail(err error) {
	w.res.Failed++
	if w.res.Err == nil {
		w.res.Err = err
	}
}
