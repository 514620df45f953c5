package scenario

import (
	"math/rand/v2"
	"slices"
	"time"

	"sluice/loadtest/load"
)

// Spread is where a figure would lie in 95 of a hundred equal runs, as far as one run can
// tell: the interval of a bootstrap (Efron 1979) whose samples are whole seconds, since requests of
// the same second share a queue and are no samples of their own. Zero where a phase has too few seconds.
type Spread struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// overlaps reports whether two spreads have a value in common, up to what a histogram
// cannot tell apart.
func (s Spread) overlaps(o Spread) bool {
	const rounding = 1.0 / 64
	return s.Low <= o.High*(1+rounding) && o.Low <= s.High*(1+rounding)
}

const (
	resamples   = 400
	fewestDrawn = 4 // seconds of which a spread is told
)

// spreads are those of a phase's good answers a second and of its median and 99th percentile, in milliseconds.
func (r *Series) spreads(phase int) (good, p50, p99 Spread) {
	seconds := r.within(phase)
	if len(seconds) < fewestDrawn {
		return
	}
	draw := rand.New(rand.NewPCG(1, uint64(phase)))
	var rates, medians, tails []float64
	for range resamples {
		var latency load.Histogram
		answered := 0
		for range seconds {
			c := &seconds[draw.IntN(len(seconds))]
			latency.Add(&c.Latency)
			answered += c.Good
		}
		rates = append(rates, float64(answered)/float64(len(seconds)))
		medians = append(medians, millis(latency.Quantile(.5)))
		tails = append(tails, millis(latency.Quantile(.99)))
	}
	return middle(rates), middle(medians), middle(tails)
}

// within are the seconds that lie in a phase as a whole.
func (r *Series) within(phase int) []Cell {
	from := 0
	if phase > 0 {
		from = int((r.ends[phase-1] + time.Second - 1) / time.Second)
	}
	return r.second[from:max(from, int(r.ends[phase]/time.Second))]
}

// middle is where 95 % of some values lie.
func middle(values []float64) Spread {
	slices.Sort(values)
	cut := len(values) / 40
	return Spread{values[cut], values[len(values)-1-cut]}
}
