package evidence

import (
	"math"

	"sluice/internal/inference/evidence/sequential"
)

// Wilson returns what a share is within, by so many observations of it, with 95 percent
// confidence: Wilson's score interval. Unlike the sequences it is for one look, at numbers
// that are all there; without observations it is everything a share can be.
func Wilson(c sequential.Count) sequential.Interval { return wilson(c, 1) }

// WilsonAmong returns what a share that was chosen from so many is within, with 95 percent
// confidence in all of their intervals together: by Bonferroni's correction.
func WilsonAmong(c sequential.Count, shares int) sequential.Interval {
	return wilson(c, max(shares, 1))
}

func wilson(c sequential.Count, shares int) sequential.Interval {
	if c.N <= 0 {
		return sequential.Interval{Low: 0, High: 1}
	}
	z := math.Sqrt2 * math.Erfinv(1-0.05/float64(shares)) // a quantile of the normal distribution; that of one share is 1.96
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
