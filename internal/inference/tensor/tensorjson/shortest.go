package tensorjson

import (
	"encoding/binary"
	"math/bits"
)

// scaling says how to bring the floats of one exponent to integers: c×2^q is
// c<<shift, times power, over 2^64, in units of 10^exp.
type scaling struct {
	power uint64
	shift uint8
	exp   int8
}

// scalings are those of the float32s, by their exponent's bits.
var scalings = func() (table [256]scaling) {
	for e := range 255 {
		q := max(e, 1) - (127 + 23)
		table[e] = scalingOf(q, floorLog10Pow2(q))
	}
	return table
}()

func scalingOf(q, k int) scaling {
	return scaling{pow10[-k-minPow10] + 1, uint8(q + floorLog2Pow10(-k) + 1), int8(k)}
}

// shortest32 returns the decimal digits×10^exp with the fewest digits, apart
// from zeros at their end, that reads back as the positive finite float32 with
// the bits, and of these the one nearest to it.
//
// It is the Schubfach algorithm (Giulietti, "The Schubfach way to render
// doubles", 2021) for 32 bits: scale the float's rounding interval by a power
// of ten so that it holds at least one integer and at most one multiple of
// ten, with two extra bits that keep every comparison exact.
func shortest32(b uint32) (digits uint32, exp int) {
	const hidden = 1 << 23
	c, e := b&(hidden-1), b>>23
	to, below, lowerIsCloser := scalings[e&255], uint32(2), false
	switch {
	case e == 0: // a denormal
	case c == 0 && e > 1: // a power of two: the float below is closer
		q := int(e) - (127 + 23)
		to, below, lowerIsCloser = scalingOf(q, floorLog10ThreeQuartersPow2(q)), 1, true
		fallthrough
	default:
		c |= hidden
	}
	shift := to.shift & 31
	lower := scale(to.power, (4*c-below)<<shift)
	value := scale(to.power, 4*c<<shift)
	upper := scale(to.power, (4*c+2)<<shift)
	lower += c & 1 // the ends belong to the interval of an even mantissa only
	upper -= c & 1
	// Of s and s+1 take the nearer one, the even one in the middle: as the
	// interval is centred on the value, it is inside if one of them is. Sums
	// instead of branches: half of these would be mispredicted.
	s := value / 4
	digits = s + (one(value > 4*s+2) | one(value == 4*s+2)&s)
	if lowerIsCloser && (value == 4*s+2 || lower > 4*s) {
		digits = s + 1
	}
	// If one multiple of ten is inside, it has fewer digits.
	tens := s / 10 * 10
	down, up := one(lower <= 4*tens), one(4*tens+40 <= upper)
	if down != up && s >= 10 {
		digits = tens + 10*up
	}
	return digits, int(to.exp)
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

// one returns 1 for true; it compiles to no branch.
func one(b bool) (v uint32) {
	if b {
		v = 1
	}
	return v
}

// float32Room is the room that putFloat32 needs; it may scribble on all of it.
const float32Room = 32

// putFloat32 writes the float with the bits as encoding/json spells it, plain
// from 1e-6 up to 1e21 and else with an exponent, and returns its length. NaN
// and the infinities are bare words. It writes whole words of eight characters
// and has few branches that depend on the digits.
func putFloat32(text *[float32Room]byte, b uint32) int {
	text[0] = '-'
	at := int(b >> 31)
	if b &^= 1 << 31; b > infinity32 {
		at = 0 // NaN has no sign
	}
	if b-1 >= infinity32-1 {
		return at + putSpecial(text[at:], b)
	}
	digits, exp := shortest32(b)
	n := decimalLen(digits)
	point := n + exp // the value is 0.digits × 10^point
	digits *= uint32(tenTo[9-n])
	first, rest := byte('0'+digits/1e8), eightChars(digits%1e8)
	n = 9 - bits.LeadingZeros64(rest^zeros)/8 // without zeros at the end
	switch {
	case point > -6 && point <= 0:
		binary.LittleEndian.PutUint64(text[at:], zeros-('0'-'.')<<8) // "0.000000"
		at += 2 - point
		text[at] = first
		binary.LittleEndian.PutUint64(text[at+1:], rest)
		return at + n
	case point > 0 && point <= 9:
		text[at] = first
		binary.LittleEndian.PutUint64(text[at+1:], rest)
		if point >= n {
			return at + point
		}
		text[at+point] = '.'
		binary.LittleEndian.PutUint64(text[at+point+1:], rest>>(8*(point-1)))
		return at + n + 1
	case point > 9 && point <= 21:
		text[at] = first
		for i := 1; i < 24; i += 8 {
			binary.LittleEndian.PutUint64(text[at+i:], rest)
			rest = zeros
		}
		return at + point
	}
	text[at], text[at+1] = first, '.'
	binary.LittleEndian.PutUint64(text[at+2:], rest)
	if at++; n > 1 {
		at += n
	}
	return len(appendExponent(text[:at], point-1))
}

// putSpecial writes zero, infinity or, without a sign, NaN.
func putSpecial(text []byte, b uint32) int {
	switch b {
	case 0:
		return copy(text, "0")
	case infinity32:
		return copy(text, "Infinity")
	}
	return copy(text, "NaN")
}

const (
	infinity32 = 0x7f800000
	zeros      = 0x3030303030303030 // "00000000"
)

// appendExponent appends a decimal exponent of one or two digits.
func appendExponent(dst []byte, exp int) []byte {
	sign := byte('+')
	if exp < 0 {
		sign, exp = '-', -exp
	}
	dst = append(dst, 'e', sign)
	if exp >= 10 {
		dst = append(dst, byte('0'+exp/10))
	}
	return append(dst, byte('0'+exp%10))
}

// decimalLen returns how many decimal digits v, of at most nine, has.
func decimalLen(v uint32) int {
	n := bits.Len32(v) * 1233 >> 12 // ⌊log10⌋ or one more
	return n + int(one(uint64(v) >= tenTo[n]))
}

// eightChars returns the eight digits of v, the first in the lowest byte: it
// splits eight into fours, fours into pairs, pairs into digits.
func eightChars(v uint32) uint64 {
	x := uint64(v/10000) | uint64(v%10000)<<32
	t := x * 10486 >> 20 & 0x0000007f0000007f // hundreds
	x = t | (x-100*t)<<16
	t = x * 103 >> 10 & 0x000f000f000f000f // tens
	return (t | (x-10*t)<<8) + zeros
}
