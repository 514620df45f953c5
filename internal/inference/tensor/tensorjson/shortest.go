package tensorjson

import "math/bits"

// The shortest digits of a float, after Schubfach (Giulietti, "The Schubfach
// way to render doubles", 2021), but with one multiplication as in Dragonbox
// (Jeon, 2020) and the last digit from the fraction of its product.
//
// The numbers that read back as the float c×2^q are an interval around it that
// is 2^q wide. With 10^k <= 2^q < 10^(k+1) at least one multiple of 10^k is in
// it, and at most one of 10^(k+1), which then is the shortest. Otherwise all
// have the same number of digits, and the nearest one is right.
//
// So c is multiplied by the power 2^q/10^(k+1), a fraction from 1/10 to 1: the
// integer part of the product is the digits but for the last, the tens, and
// the interval reaches half a power to both sides of it. Fractions are in units
// of 2^-64.

// slack is how far from an integer an end of the interval counts as on it, and
// from the middle of two digits a value as there: more than the error of a
// product, and less than any other float32 comes near to, as a test of all of
// them has shown. For a float64 there is unsure.
const slack = 1 << 25

// scale says how to bring the floats c×2^q of one q to digits.
type scale struct {
	power uint64 // 2^q/10^(k+1) in units of 2^-64, rounded up for float32
	low   uint64 // the next 64 bits, rounded up
	half  uint64 // of power, and slack
	exp   int    // k+1
}

// reach returns how far the interval reaches from its middle: its ends belong
// to it if the mantissa is even.
func (s *scale) reach(c uint64) uint64 { return s.half - c&1*(2*slack) }

// roundDigits returns the shortest digits rounded×10+last for the value
// tens+frac, and at a tie the even ones. It has no branches: half of them would
// be mispredicted.
func roundDigits(tens, frac, reach uint64) (rounded, last uint64) {
	end, up := bits.Add64(frac, reach, 0)
	tens, _ = bits.Add64(tens, 0, up)
	tenfold := (frac >> 4) * 10 // in units of 2^-60
	odd := tenfold >> 60 & 1
	last = (tenfold + (1<<59 - slack) + odd*(2*slack)) >> 60
	if end < 2*reach { // so frac < reach, or it went up
		last = 0
	}
	return tens, last // 9 at most: from 9.5 on, half a power reaches up
}

// lopsided reports whether the reach does not decide about a power of two,
// which has only half of it below: there floats are twice as close.
func lopsided(frac, reach uint64) bool { return frac >= reach/2 && frac < -reach }

// unsure reports whether frac is so near to a place where the digits change
// that the error of a float64's product may matter.
func unsure(frac, reach uint64) bool {
	const near = 4 * slack
	middle := (frac>>4)*10 - 1<<59
	return frac-reach+near < 2*near || frac+reach+near < 2*near || middle<<4+near<<4 < 2*near<<4
}

// scales32 are those of the float32s, by their exponent's bits; scales64 are
// those of the float64s that pow10 reaches, by q-minQ.
var (
	scales32 = func() (table [256]scale) {
		for e := range table {
			s := scaleOf(e - (127 + 23))
			s.power++
			table[e] = s
		}
		table[0].exp, table[255].exp = rare, rare
		return table
	}()
	scales64 = func() (table [maxQ - minQ + 1]scale) {
		for i := range table {
			table[i] = scaleOf(i + minQ)
		}
		return table
	}()
)

const (
	minQ = -210
	maxQ = 210
	rare = 1 << 20 // as an exp: denormals, zero, infinity and NaN
)

func scaleOf(q int) scale {
	k := floorLog10Pow2(q) + 1
	high, low := pow10[-k-minPow10], pow10Low[-k-minPow10]
	s := -(q + floorLog2Pow10(-k) + 1) // 0 to 3
	low, carry := bits.Add64(low>>s|high<<(64-s), 1, 0)
	high = high>>s + carry
	return scale{high, low, high/2 + slack, k}
}
