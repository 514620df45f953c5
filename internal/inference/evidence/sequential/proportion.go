package sequential

import "math"

// Count is how many of N observations were hits, errors say.
type Count struct {
	N    int64 `json:"n"`
	Hits int64 `json:"hits"`
}

// Rate returns the share of hits; not a number where nothing was observed.
func (c Count) Rate() float64 { return float64(c.Hits) / float64(c.N) }

// few is how many hits, and misses, each arm needs before MSPRT says anything.
// Before that a rate is too skewed to be taken for normal, most of all where one
// arm is small: a test of 1 percent against itself, in arms of 30 to 1, gave
// false alarms in 7 percent of all experiments instead of 5.
const few = 10

// few says whether there are too few hits or misses.
func (c Count) few() bool { return min(c.Hits, c.N-c.Hits) < few }

// Proportion returns the confidence sequence for the rate of hits that follows
// from Robbins' beta-binomial mixture ("Statistical methods related to the law
// of the iterated logarithm", 1970) with the prior Beta(1/2, 1/2). It is valid
// for any number of observations, none included.
func Proportion(c Count, alpha float64) Interval {
	limit := -math.Log(alpha)
	inside := func(p float64) bool { return logMixture(c, p) < limit }
	out := Interval{0, 1}
	if c.N == 0 {
		return out
	}
	rate := c.Rate()
	if c.Hits > 0 {
		out.Low = border(0, rate, inside)
	}
	if c.Hits < c.N {
		out.High = border(1, rate, inside)
	}
	return out
}

// border returns where inside begins between outer, which is not, and inner,
// which is; rounded outwards.
func border(outer, inner float64, inside func(float64) bool) float64 {
	for range 60 {
		mid := (outer + inner) / 2
		if inside(mid) {
			inner = mid
		} else {
			outer = mid
		}
	}
	return outer
}

// logMixture is the logarithm of a martingale that starts at 1 if p is the rate
// of hits: the likelihood of all rates, mixed over the prior, over that of p.
func logMixture(c Count, p float64) float64 {
	hits, misses := float64(c.Hits), float64(c.N-c.Hits)
	const prior = 0.5
	m := logBeta(prior+hits, prior+misses) - logBeta(prior, prior)
	if hits > 0 {
		m -= hits * math.Log(p)
	}
	if misses > 0 {
		m -= misses * math.Log1p(-p)
	}
	return m
}

func logBeta(a, b float64) float64 { return logGamma(a) + logGamma(b) - logGamma(a+b) }

func logGamma(x float64) float64 { l, _ := math.Lgamma(x); return l }

// ProportionDifference returns the confidence sequence for the rate of b less
// that of a which belongs to the mixture sequential probability ratio test
// (Johari, Pekelis and Walsh, "Always valid inference", 2015): all differences
// that MSPRT does not refuse at alpha, and all of them while that is silent.
func ProportionDifference(a, b Count, alpha, effect float64) Interval {
	if a.few() || b.few() {
		return Everything
	}
	return mixture(b.Rate()-a.Rate(), differenceVariance(a, b), effect*effect, alpha)
}

// MSPRT returns the always-valid p-value of the hypothesis that the rate of b
// exceeds that of a by difference. It is strongest against true differences
// about effect away from that, which is an absolute one: 0.01 is a percentage
// point. It is 1 until each arm has ten hits and ten misses.
func MSPRT(a, b Count, difference, effect float64) float64 {
	if a.few() || b.few() {
		return 1
	}
	v, tau2, d := differenceVariance(a, b), effect*effect, b.Rate()-a.Rate()-difference
	ratio := -0.5*math.Log1p(tau2/v) + tau2*d*d/(2*v*(v+tau2))
	return min(1, math.Exp(-ratio))
}

func differenceVariance(a, b Count) float64 {
	p, q := a.Rate(), b.Rate()
	return p*(1-p)/float64(a.N) + q*(1-q)/float64(b.N)
}

// ProportionDifferenceExact is ProportionDifference without the central limit
// theorem: the exact sequences of both arms, each at half of alpha. It holds from
// the first observation on, for a canary without an error in its first hundred
// requests, too. To find a difference it takes up to four times the observations
// where the arms are of equal size, and less than twice where one is small.
func ProportionDifferenceExact(a, b Count, alpha float64) Interval {
	return Proportion(b, alpha/2).Less(Proportion(a, alpha/2))
}
