package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Arrivals yields the gaps between requests of an open loop.
type Arrivals func() time.Duration

// Constant spaces requests evenly at a rate per second.
func Constant(rate float64) Arrivals {
	gap := time.Duration(float64(time.Second) / rate)
	return func() time.Duration { return gap }
}

// Poisson spaces requests like independent callers of a total rate per second.
// Equal seeds give equal arrivals.
func Poisson(rate float64, seed uint64) Arrivals {
	rng := rand.New(rand.NewPCG(seed, 0x6c6f6164)) // #nosec G404 -- reproducible arrivals, no secret
	return func() time.Duration { return time.Duration(rng.ExpFloat64() * float64(time.Second) / rate) }
}

// Open sends requests as they become due for the duration, whatever the server
// does. Latencies count from the due time. At most two requests per connection
// are outstanding: those due beyond that are counted as Unsent, so give the
// pool more connections than the server can keep waiting.
func (p *Pool) Open(ctx context.Context, l Load, arrivals Arrivals, d time.Duration) (*Result, error) {
	start := time.Now()
	end := start.Add(d)
	backlog := make(chan time.Time, len(p.conns))
	due, unsent := 0, 0
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
			select {
			case backlog <- at:
			default:
				unsent++
				if l.Seen != nil {
					l.Seen(Sample{Due: at, Outcome: Unsent})
				}
			}
		}
	}()
	total := p.run(ctx, l, start.Add(l.Ramp), end, func(w *worker) {
		for at := range backlog {
			w.res.Lag.Record(time.Since(at))
			w.send(at)
		}
	})
	total.Duration, total.Window, total.Due, total.Unsent = d, d-l.Ramp, due, unsent
	if due == 0 {
		return nil, fmt.Errorf("load: no request became due in %s", d)
	}
	return total, ctx.Err()
}
