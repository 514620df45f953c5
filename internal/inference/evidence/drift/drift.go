// Package drift tells how far what a model sees now, or answers now, is from
// what it saw in a reference window.
//
// Numbers are counted in sketches, which add up, whoever counted them. Distances
// are then functions of two rows of counts over the same bins: the population
// stability index, Kolmogorov and Smirnov's distance, and that of Jensen and Shannon.
// With few observations a distance says more about chance than about drift:
// CompareSketches answers only from MinCount on, and says how much of the index is
// expected by chance.
//
// Known limits: a distance is no test. With a million observations a harmless
// change is significant, so thresholds are on distances; and they are looked at
// again and again without a correction for that.
package drift

// MinCount is how many observations each side needs at least.
const MinCount = 200

// counts are how many observations each bin has.
type counts []int64

// total returns how many observations were counted.
func (c counts) total() (n int64) {
	for _, k := range c {
		n += k
	}
	return n
}
