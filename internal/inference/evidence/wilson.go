package evidence

import (
	"math"

	"sluice/internal/inference/evidence/sequential"
)

// Wilson returns what a share is within, by so many observations of it, with 95 percent
// confidence: Wilson's score interval. Unlike the sequences it is for one look, at numbers
// that are all there; without observations it is everything a share can be.
func Wilson(c sequential.Count) sequential.Interval {
	if c.N <= 0 {
		return sequential.Interval{Low: 0, High: 1}
	}
	const z = 1.959963984540054 // the 0.975-quantile of the normal distribution
	n, p := float64(c.N), c.Rate()
	middle, half := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	low, high := (middle-half)/(1+z*z/n), (middle+half)/(1+z*z/n)
	if c.Hits == 0 {
		low = 0 // but for rounding
	}
	if c.Hits == c.N {
		high = 1
	}
	return sequential.Interval{Low: max(low, 0), High: min(high, 1)}
}
