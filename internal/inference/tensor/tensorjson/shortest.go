package tensorjson

import "math/bits"

// shortest32 returns the decimal digits×10^exp with the fewest digits that
// reads back as the positive finite float32 with the bits, and of these the
// one nearest to it.
//
// It is the Schubfach algorithm (Giulietti, "The Schubfach way to render
// doubles", 2021) for 32 bits: scale the float's rounding interval by a power
// of ten so that it holds at least one integer and at most one multiple of
// ten, with two extra bits that keep every comparison exact.
func shortest32(b uint32) (digits uint32, exp int) {
	const hidden = 1 << 23
	c, q := b&(hidden-1), int(b>>23)
	lowerIsCloser := c == 0 && q > 1
	if q != 0 {
		c |= hidden
	} else {
		q = 1
	}
	q -= 127 + 23 // the value is c×2^q
	if q <= 0 && q > -24 && c&(1<<-q-1) == 0 {
		return trimZeros(c>>-q, 0) // an integer below 2^24
	}
	k, below := floorLog10Pow2(q), uint32(2)
	if lowerIsCloser {
		k, below = floorLog10ThreeQuartersPow2(q), 1
	}
	h := q + floorLog2Pow10(-k) + 1
	p := pow10[-k-minPow10] + 1
	lower := scale(p, (4*c-below)<<h)
	value := scale(p, 4*c<<h)
	upper := scale(p, (4*c+2)<<h)
	if c&1 == 1 { // the ends belong to the interval of an even mantissa only
		lower++
		upper--
	}
	s := value / 4
	if s >= 10 {
		tens := s / 10
		down, up := lower <= 40*tens, 40*tens+40 <= upper
		if down != up {
			if up {
				tens++
			}
			return trimZeros(tens, k+1)
		}
	}
	down, up := lower <= 4*s, 4*s+4 <= upper
	if down == up { // both or none: the nearer one; in the middle, as strconv
		up = value > 4*s+2 || value == 4*s+2 && (s&1 == 1 || lowerIsCloser)
	}
	if up {
		s++
	}
	return s, k
}

// scale returns ⌊p×c/2^64⌋ with its last bit set where something was cut off:
// enough to compare with integers exactly.
func scale(p uint64, c uint32) uint32 {
	hi, lo := bits.Mul64(p, uint64(c))
	v := uint32(hi)
	if lo>>32 > 1 {
		v |= 1
	}
	return v
}

// trimZeros takes the trailing zeros off the digits.
func trimZeros(digits uint32, exp int) (uint32, int) {
	for digits >= 10 && digits%10 == 0 {
		digits /= 10
		exp++
	}
	return digits, exp
}

// appendDecimal appends digits×10^exp as encoding/json spells a float: plain
// from 1e-6 up to 1e21, else with an exponent. dst must have room for it.
func appendDecimal(dst []byte, digits uint32, exp int) []byte {
	var buf [10]byte
	text := buf[writeDigits(&buf, digits):]
	point := len(text) + exp // position of the decimal point in the digits
	switch {
	case point > 21 || point < -5:
		return appendExponent(dst, text, point-1)
	case point <= 0:
		dst = append(dst, "0.00000"[:2-point]...)
		return append(dst, text...)
	case point < len(text):
		dst = append(dst, text[:point]...)
		dst = append(dst, '.')
		return append(dst, text[point:]...)
	}
	dst = append(dst, text...)
	return append(dst, "00000000000000000000"[:exp]...)
}

func appendExponent(dst, text []byte, exp int) []byte {
	dst = append(dst, text[0])
	if len(text) > 1 {
		dst = append(append(dst, '.'), text[1:]...)
	}
	dst = append(dst, 'e')
	if exp < 0 {
		dst = append(dst, '-')
		exp = -exp
	} else {
		dst = append(dst, '+')
	}
	if exp >= 10 {
		dst = append(dst, byte('0'+exp/10))
	}
	return append(dst, byte('0'+exp%10))
}

// writeDigits writes v at the end of buf and returns where it starts.
func writeDigits(buf *[10]byte, v uint32) int {
	i := len(buf)
	for v >= 100 {
		i -= 2
		pair := v % 100 * 2
		v /= 100
		buf[i], buf[i+1] = pairs[pair], pairs[pair+1]
	}
	if v >= 10 {
		buf[i-2], buf[i-1] = pairs[v*2], pairs[v*2+1]
		return i - 2
	}
	buf[i-1] = byte('0' + v)
	return i - 1
}

const pairs = "00010203040506070809" +
	"10111213141516171819" + "20212223242526272829" + "30313233343536373839" +
	"40414243444546474849" + "50515253545556575859" + "60616263646566676869" +
	"70717273747576777879" + "80818283848586878889" + "90919293949596979899"
