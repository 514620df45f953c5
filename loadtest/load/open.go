package load

import (
	"context"
	"fmt"
	"time"
)

// Arrivals yields the gaps between requests of an open loop.
type Arrivals func() time.Duration

// Poisson spaces requests like independent callers of a total rate per second.
// Equal seeds give equal arrivals.
func Poisson(rate float64, seed uint64) Arrivals {
	return Steps([]Step{{Rate: rate, For: never}}, true, seed)
}

// Open sends requests as they become due for the duration, whatever the server
// does. Latencies count from the due time. At most two requests per connection
// are outstanding: those due beyond that are counted as Unsent, so give the
// pool more connections than the server can keep waiting.
func (p *Pool) Open(ctx context.Context, l Load, arrivals Arrivals, d time.Duration) (*Result, error) {
	start := time.Now()
	end := start.Add(d)
	backlog := make(chan arrival, len(p.conns))
	due, unsent, late := 0, 0, new(Histogram)
	go func() {
		defer close(backlog) // ends the run
		sleep := newSleeper()
		defer sleep.close()
		for at := start.Add(arrivals()); at.Before(end); at = at.Add(arrivals()) {
			sleep.until(at)
			if ctx.Err() != nil {
				return
			}
			due++
			a := arrival{due: at, noticed: time.Now()}
			select {
			case backlog <- a:
			default:
				unsent++
				late.Record(a.noticed.Sub(at))
				if l.Seen != nil {
					l.Seen(Sample{Due: at, Outcome: Unsent})
				}
			}
		}
	}()
	total := p.run(ctx, l, start.Add(l.Ramp), end, func(w *worker) {
		for free := start; ; {
			a, ok := <-backlog
			if !ok {
				return
			}
			w.res.Lag.Record(a.lag(free, time.Now()))
			free = w.send(a.due)
		}
	})
	total.Lag.Add(late)
	total.Duration, total.Window, total.Due, total.Unsent = d, d-l.Ramp, due, unsent
	if due == 0 {
		return nil, fmt.Errorf("load: no request became due in %s", d)
	}
	return total, ctx.Err()
}

// arrival is a request that has become due, and when the generator noticed.
type arrival struct{ due, noticed time.Time }

// lag is how late the generator was with a request that a connection, free since some time, has
// taken: in noticing that it is due, or in handing it to the connection. What it waited for a free
// connection is the server's.
func (a arrival) lag(free, taken time.Time) time.Duration {
	since := a.noticed
	if free.After(since) {
		since = free
	}
	return a.noticed.Sub(a.due) + taken.Sub(since)
}
