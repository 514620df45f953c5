package tensorjson

import (
	"encoding/binary"
	"math/bits"
)

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
		return c >> -q, 0 // an integer below 2^24
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
	lower += c & 1 // the ends belong to the interval of an even mantissa only
	upper -= c & 1
	// Of s and s+1, and of the multiples of ten around them, take what lies in
	// the interval; sums instead of branches, which would be mispredicted.
	s := value / 4
	down, up := one(lower <= 4*s), one(4*s+4 <= upper)
	if down == up { // both or none: the nearer one; in the middle as strconv
		up = one(value > 4*s+2) | one(value == 4*s+2)&(s|one(lowerIsCloser))&1
	}
	tens := s / 10
	tensDown, tensUp := one(lower <= 40*tens), one(40*tens+40 <= upper)
	digits, shorter := s+up, (tensDown^tensUp)&one(s >= 10)
	if shorter != 0 {
		digits = tens + tensUp
	}
	return digits, k + int(shorter)
}

// one returns 1 for true; it compiles to no branch.
func one(b bool) (v uint32) {
	if b {
		v = 1
	}
	return v
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

// float32Room is the room that putFloat32 needs; it may scribble on all of it.
const float32Room = 32

// putFloat32 writes the float with the bits as encoding/json spells it, plain
// from 1e-6 up to 1e21 and else with an exponent, and returns its length. NaN
// and the infinities are bare words. It writes whole words of eight characters
// and has few branches that depend on the digits.
func putFloat32(text *[float32Room]byte, b uint32) int {
	text[0] = '-'
	at := int(b >> 31)
	b &^= 1 << 31
	switch {
	case b == 0:
		text[at] = '0'
		return at + 1
	case b > infinity32:
		return copy(text[:], "NaN")
	case b == infinity32:
		return at + copy(text[at:], "Infinity")
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
	if uint64(v) >= tenTo[n] {
		n++
	}
	return n
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
