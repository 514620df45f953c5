package load

import (
	"math/rand/v2"
	"time"
)

// Step is a rate of arrivals for a while.
type Step struct {
	Rate float64 // per second; 0 sends nothing
	For  time.Duration
}

// Steps yields arrivals whose rate changes with time, evenly spaced or like
// those of independent callers (Poisson). It ends with the last step: the next
// gap is longer than any run. Equal seeds give equal arrivals.
func Steps(steps []Step, poisson bool, seed uint64) Arrivals {
	rng := rand.New(rand.NewPCG(seed, 0x6c6f6164)) // #nosec G404 -- reproducible arrivals, no secret
	at, step, end := 0.0, 0, 0.0                   // seconds
	if len(steps) > 0 {
		end = steps[0].For.Seconds()
	}
	return func() time.Duration {
		before, due := at, 1.0 // arrivals that are still to pass; what is left of one after a step goes on in the next
		if poisson {
			due = rng.ExpFloat64()
		}
		for step < len(steps) {
			rate := steps[step].Rate
			if in := (end - at) * rate; rate > 0 && due <= in {
				at += due / rate
				return nanos(at) - nanos(before) // so that rounding does not add up
			} else if rate > 0 {
				due -= in
			}
			at = end
			if step++; step < len(steps) {
				end += steps[step].For.Seconds()
			}
		}
		return never
	}
}

// never is later than the end of any run.
const never = 100 * 365 * 24 * time.Hour

func nanos(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
