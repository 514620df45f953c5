package load

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every step gets as many arrivals as its rate says, within its own time.
func TestStepsFollowTheRates(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		poisson := rapid.Bool().Draw(rt, "poisson")
		var steps []Step
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			steps = append(steps, Step{rapid.SampledFrom([]float64{0, 50, 400, 3000}).Draw(rt, "rate"), time.Duration(rapid.IntRange(1, 4000).Draw(rt, "ms")) * time.Millisecond})
		}
		arrivals := Steps(steps, poisson, rapid.Uint64().Draw(rt, "seed"))
		counts, at, total := make([]float64, len(steps)), time.Duration(0), time.Duration(0)
		for _, s := range steps {
			total += s.For
		}
		for at += arrivals(); at < total; at += arrivals() {
			end := time.Duration(0)
			for i, s := range steps {
				if end += s.For; at < end+time.Microsecond {
					counts[i]++
					break
				}
			}
		}
		for i, s := range steps {
			want := s.Rate * s.For.Seconds()
			slack := 2.0
			if poisson {
				slack += 6 * math.Sqrt(want)
			}
			if math.Abs(counts[i]-want) > slack {
				rt.Fatalf("step %d of %v got %v arrivals, want about %v", i, steps, counts[i], want)
			}
		}
		if gap := arrivals(); gap < never {
			rt.Fatalf("an arrival after the last step, %s later", gap)
		}
	})
}

func TestNoStepsNoArrivals(t *testing.T) {
	if gap := Steps(nil, true, 1)(); gap < never {
		t.Errorf("an arrival after %s", gap)
	}
}
