package scenario

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"sluice/loadtest/load"
)

// Spread is where a figure would lie in 95 of a hundred equal runs, as far as one run can tell; zero where a phase
// has too few seconds. It is the interval of a bootstrap (Efron 1979) over blocks of seconds (Politis and Romano
// 1992): requests of one second share a queue, and neighbouring seconds what others do on the machine. It is widened
// for the small number of blocks, as Student's t is wider than the normal distribution.
type Spread struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// overlaps reports whether two spreads have a value in common, to within the
// resolution of a histogram.
func (s Spread) overlaps(o Spread) bool {
	const rounding = 1.0 / 64
	return s.Low <= o.High*(1+rounding) && o.Low <= s.High*(1+rounding)
}

const (
	resamples   = 400
	block       = 2 // seconds
	fewestDrawn = 6 // seconds that a phase needs for a spread
)

// spreads are those of a phase's good answers a second and of its median and 99th percentile, in milliseconds.
func (r *Series) spreads(phase int) (good, p50, p99 Spread) {
	seconds := r.within(phase)
	if len(seconds) < fewestDrawn {
		return
	}
	blocks := (len(seconds) + block - 1) / block
	draw := rand.New(rand.NewPCG(1, uint64(phase)))
	var rates, medians, tails []float64
	for range resamples {
		var latency load.Histogram
		good, lost := 0, 0
		for range blocks {
			at := draw.IntN(len(seconds))
			for next := range block {
				c := &seconds[(at+next)%len(seconds)]
				latency.Add(&c.Latency)
				good, lost = good+c.Good, lost+c.lost()
			}
		}
		rates = append(rates, float64(good)/float64(block*blocks))
		medians = append(medians, ms(&latency, lost, .5))
		tails = append(tails, ms(&latency, lost, .99))
	}
	all, factor := sum(seconds), widening(blocks)
	return middle(rates).widened(float64(all.Good)/float64(len(seconds)), factor),
		middle(medians).widened(ms(&all.Latency, all.lost(), .5), factor), middle(tails).widened(ms(&all.Latency, all.lost(), .99), factor)
}

// widening is the factor by which the interval of a bootstrap over n samples is too narrow: the samples' own spread
// counts n instead of n - 1, and how uncertain it is itself is in Student's t (its expansion for many samples, within
// 3 % from three on).
func widening(n int) float64 {
	free := float64(n - 1)
	return (1 + (1.21+(1.44+1.3/free)/free)/free) * math.Sqrt(float64(n)/free)
}

// widened moves the ends of a spread away from the value by a factor.
func (s Spread) widened(value, factor float64) Spread {
	return Spread{max(value-factor*max(value-s.Low, 0), 0), value + factor*max(s.High-value, 0)}
}

// within are the seconds that lie in a phase as a whole.
func (r *Series) within(phase int) []Cell {
	begin := time.Duration(0)
	if phase > 0 {
		begin = r.ends[phase-1]
	}
	from, to := whole(begin, r.ends[phase])
	return r.second[from:to]
}

// whole are the first of the seconds that lie between two times as a whole, and the one after the last.
func whole(begin, end time.Duration) (from, to int) {
	from = int((begin + time.Second - 1) / time.Second)
	return from, max(from, int(end/time.Second))
}

// middle is where 95 % of some values lie.
func middle(values []float64) Spread {
	slices.Sort(values)
	cut := len(values) / 40
	return Spread{values[cut], values[len(values)-1-cut]}
}
