package drift

import "math"

// Distance is how far a window is from the reference.
type Distance struct {
	Reference int64 `json:"reference"` // observations
	Window    int64 `json:"window"`
	// The samples that the observations are of, see Sketch.End; 0 for unknown.
	ReferenceSamples int64 `json:"reference_samples,omitempty"`
	WindowSamples    int64 `json:"window_samples,omitempty"`
	// PSI is the population stability index. By custom 0.1 is worth a look and
	// 0.25 is a shift.
	PSI float64 `json:"psi"`
	// Noise is the index that chance alone gives, on average.
	Noise float64 `json:"noise"`
	// MaxNoise is the same where all observations of a sample say what one of them does.
	MaxNoise float64 `json:"max_noise,omitempty"`
	// KS is the greatest difference of the shares up to a value: at most that of
	// the values themselves, and less by no more than one bucket's share.
	KS float64 `json:"ks,omitempty"`
	// KSP is the chance of a KS as great without any drift, for one look.
	KSP float64 `json:"ks_p,omitempty"`
	// JS is Jensen and Shannon's distance with logarithms to base 2: 0 to 1.
	JS float64 `json:"js"`
}

// Shift returns the index less what chance gives: what thresholds are for.
func (d Distance) Shift() float64 { return max(0, d.PSI-d.Noise) }

// beyond is how many times the noise chance does not exceed in practice: the index of 200
// samples without drift, over eleven bins, does so once in a thousand comparisons, and
// where there is drift already much less often.
const beyond = 3

// Least returns what the index is at least, whatever chance and dependence have added: what
// may raise an alarm.
func (d Distance) Least() float64 { return max(0, d.PSI-beyond*max(d.Noise, d.MaxNoise)) }

// smoothing is what is added to every bin that either side has anything in, so
// that an empty one makes the index large and not infinite (Jeffreys' prior).
const smoothing = 0.5

// psi returns sum((q-p)*ln(q/p)) over the smoothed shares, and what it is
// expected to be by chance: the index times nm/(n+m) is about chi-square with
// one degree of freedom less than bins (Yurdakul, 2018).
func psi(reference, window counts) (index, noise float64) {
	bins := 0
	for i := range reference {
		if reference[i]+window[i] > 0 {
			bins++
		}
	}
	n, m := float64(reference.total()), float64(window.total())
	for i := range reference {
		if reference[i]+window[i] == 0 {
			continue
		}
		p := (float64(reference[i]) + smoothing) / (n + smoothing*float64(bins))
		q := (float64(window[i]) + smoothing) / (m + smoothing*float64(bins))
		index += (q - p) * math.Log(q/p)
	}
	return index, float64(bins-1) * (1/n + 1/m)
}

// jensenShannon returns the square root of the mean divergence, in bits, of
// both sides from their mixture. It needs no smoothing.
func jensenShannon(reference, window counts) float64 {
	n, m := float64(reference.total()), float64(window.total())
	sum := 0.0
	for i := range reference {
		p, q := float64(reference[i])/n, float64(window[i])/m
		sum += relative(p, (p+q)/2) + relative(q, (p+q)/2)
	}
	return math.Sqrt(min(max(sum/2, 0), 1))
}

// relative is p*log2(p/q), which is 0 for p = 0.
func relative(p, q float64) float64 {
	if p == 0 {
		return 0
	}
	return p * math.Log2(p/q)
}

// kolmogorovSmirnov returns the distance and its asymptotic p-value.
func kolmogorovSmirnov(reference, window counts) (distance, p float64) {
	n, m := float64(reference.total()), float64(window.total())
	if n == 0 || m == 0 {
		return 0, 1
	}
	below, beside := 0.0, 0.0
	for i := range reference {
		below += float64(reference[i]) / n
		beside += float64(window[i]) / m
		distance = max(distance, math.Abs(below-beside))
	}
	return distance, kolmogorov(math.Sqrt(n*m/(n+m)) * distance)
}

// kolmogorov returns the chance that Kolmogorov's limit exceeds x, by whichever
// of its two series converges (Marsaglia, Tsang and Wang, 2003, section 1).
func kolmogorov(x float64) float64 {
	switch {
	case x < 0.2:
		return 1
	case x < 1.1:
		sum := 0.0
		for k := 1.0; k <= 9; k += 2 {
			sum += math.Exp(-k * k * math.Pi * math.Pi / (8 * x * x))
		}
		return min(1, max(0, 1-math.Sqrt(2*math.Pi)/x*sum))
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; k <= 6; k++ {
		sum += sign * math.Exp(-2*k*k*x*x)
		sign = -sign
	}
	return min(1, max(0, 2*sum))
}
