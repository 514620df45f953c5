package sequential

import "math"

// Moments sums up numbers: how many, their mean, and the sum of their squared
// distances from it. The zero value has none. Two of them merge to the moments
// of all their numbers, but for rounding.
type Moments struct {
	N    int64   `json:"n"`
	Mean float64 `json:"mean"`
	M2   float64 `json:"m2"`
}

// Add counts a number (Welford's method).
func (m *Moments) Add(x float64) {
	m.N++
	d := x - m.Mean
	m.Mean += d / float64(m.N)
	m.M2 += d * (x - m.Mean)
}

// Merge counts the numbers of another (Chan et al., 1979).
func (m *Moments) Merge(o Moments) {
	if o.N == 0 {
		return
	}
	n := float64(m.N) + float64(o.N)
	d := o.Mean - m.Mean
	m.Mean += d * float64(o.N) / n
	m.M2 += o.M2 + d*d*float64(m.N)*float64(o.N)/n
	m.N += o.N
}

// Variance returns the variance of what the numbers are drawn from, as far as
// they tell: infinite for fewer than two.
func (m Moments) Variance() float64 {
	if m.N < 2 {
		return math.Inf(1)
	}
	return m.M2 / float64(m.N-1)
}

// Mean returns the asymptotic confidence sequence of Waudby-Smith, Arbour,
// Sinha, Kennedy and Ramdas ("Time-uniform central limit theory and asymptotic
// confidence sequences", Annals of Statistics 2024, Theorem 2.2) for a mean. It is narrowest, for
// its alpha, around tuned observations.
func Mean(m Moments, alpha, tuned float64) Interval {
	return asymptotic(m.Mean, m.Variance()/float64(m.N), float64(m.N), alpha, tuned)
}

// MeanDifference is Mean for the mean of b less that of a. tuned counts the
// observations of both; where one arm is smaller, as many of it as make up for
// that.
//
// Of a small arm little is known, and its variance may look small by chance: it
// counts as at least that of both together.
func MeanDifference(a, b Moments, alpha, tuned float64) Interval {
	if min(a.N, b.N) < 2 {
		return Everything
	}
	n, m := float64(a.N), float64(b.N)
	pooled := (a.M2 + b.M2) / (n + m - 2)
	variance := max(a.Variance(), pooled)/n + max(b.Variance(), pooled)/m
	return asymptotic(b.Mean-a.Mean, variance, 4*n*m/(n+m), alpha, tuned)
}

// asymptotic is the mixture with a prior that scales with the spread of the
// observations: tau squared is rho squared times the variance of one of n.
func asymptotic(estimate, variance, n, alpha, tuned float64) Interval {
	return mixture(estimate, variance, rho2(alpha, tuned)*variance*n, alpha)
}

// rho2 is the parameter for which the sequence is narrowest at tuned
// observations (equation 24 of the same paper, approximately).
func rho2(alpha, tuned float64) float64 {
	l := -2 * math.Log(alpha)
	return (l + math.Log(l+1)) / tuned
}

// mixture is the confidence sequence of Robbins' normal mixture for an estimate
// with a variance: all effects whose likelihood, mixed over a normal prior with
// variance tau2 around them, is below 1/alpha times their own.
func mixture(estimate, variance, tau2, alpha float64) Interval {
	if math.IsInf(variance, 0) || math.IsNaN(variance) || math.IsNaN(estimate) {
		return Everything
	}
	if variance == 0 { // all observations alike: they tell of no spread, so of no certainty either
		return Everything
	}
	half := math.Sqrt(variance * (variance + tau2) / tau2 * 2 * (0.5*math.Log1p(tau2/variance) - math.Log(alpha)))
	return Interval{estimate - half, estimate + half}
}
