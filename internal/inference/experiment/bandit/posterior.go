package bandit

import (
	"math"
	"math/rand/v2"
)

// An arm with fewer than fewest numbers, too few to tell of a spread, is drawn as up to
// unknown, better than any other, so that it is tried.
const (
	fewest  = 5
	unknown = math.MaxFloat64
)

// draw draws the true mean of an arm from what is believed of it.
func (in *Inputs) draw(r *rand.Rand, a *Arm) float64 {
	if in.Reward == Rate {
		// Beta(1, 1), the uniform prior, and a hit or a miss each.
		return beta(r, float64(a.Count.Hits)+1, float64(a.Count.N-a.Count.Hits)+1)
	}
	m := a.Moments
	if m.N < fewest {
		return unknown * r.Float64()
	}
	// The mean of a normal distribution of unknown spread, with Jeffreys' prior:
	// Student's distribution, of one degree of freedom less than numbers.
	n := float64(m.N)
	spread := math.Sqrt(m.Variance() / n)
	return m.Mean + spread*r.NormFloat64()/math.Sqrt(2*gamma(r, (n-1)/2)/(n-1))
}

// beta draws from the beta distribution.
func beta(r *rand.Rand, a, b float64) float64 {
	x := gamma(r, a)
	return x / (x + gamma(r, b))
}

// gamma draws from the gamma distribution with scale 1 and a shape of at least
// 1 (Marsaglia and Tsang, "A simple method for generating gamma variables",
// 2000).
func gamma(r *rand.Rand, shape float64) float64 {
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v *= v * v
		if u := r.Float64(); math.Log(u) < x*x/2+d*(1-v+math.Log(v)) {
			return d * v
		}
	}
}
