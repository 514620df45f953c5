package sequential

import "math"

// Ranks returns the ranks, from 1, of the observations between which the
// q-quantile lies, in all of the looks at once: it is at least the low-th
// smallest of n and at most the high-th. low is 0 and high is n+1 where the
// observations give no such bound.
//
// How many observations are at most the quantile is binomial, so the sequence
// of Proportion bounds it; ties only make that safer. That is a confidence
// sequence for one quantile, as in Howard and Ramdas ("Sequential estimation of
// quantiles", Bernoulli 2022, section 3), with another mixture.
func Ranks(n int64, q, alpha float64) (low, high int64) {
	limit := -math.Log(alpha)
	inside := func(s int64) bool { return logMixture(Count{n, s}, q) < limit }
	// The mixture is convex in the hits, with its least value near n*q.
	mode := min(max(int64(math.Round(float64(n)*q)), 0), n)
	if n == 0 || !inside(mode) {
		return 0, n + 1
	}
	low = mode - reach(mode, func(d int64) bool { return inside(mode - d) })
	high = mode + reach(n-mode, func(d int64) bool { return inside(mode + d) })
	return low, high + 1
}

// reach returns the greatest distance up to most that is inside; 0 is.
func reach(most int64, inside func(int64) bool) int64 {
	low, high := int64(0), most+1
	for high-low > 1 {
		if mid := low + (high-low)/2; inside(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}
