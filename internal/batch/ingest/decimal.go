package ingest

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// powers are the powers of ten that a 64-bit float has exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// maxPower is the largest of them.
const maxPower = len(powers) - 1

// maxDigits is how many decimal digits always fit into 64 bits.
const maxDigits = 19

// number is a decimal number: digits times a power of ten.
type number struct {
	digits   uint64
	scale    int // the power
	negative bool
}

// decimal reads the number that text begins with, in plain decimal of at most maxDigits digits, and returns how many
// bytes it has; 0 for all others.
func decimal(text []byte) (x number, n int) {
	x.negative = len(text) > 0 && text[0] == '-'
	if x.negative || len(text) > 0 && text[0] == '+' {
		n++
	}
	begin := n
	x.digits, n = digitsOf(0, text, n)
	whole := n - begin
	if n < len(text) && text[n] == '.' {
		n++
		point := n
		x.digits, n = digitsOf(x.digits, text, n)
		x.scale = point - n
	}
	if count := whole - x.scale; count == 0 || count > maxDigits {
		return x, 0
	}
	if n < len(text) && text[n]|0x20 == 'e' {
		power, size := exponent(text[n+1:])
		if size == 0 {
			return x, 0
		}
		x.scale, n = x.scale+power, n+1+size
	}
	return x, n
}

// float64 returns the number as 64-bit float, and whether a single operation rounds it right (Clinger 1990): whole
// numbers up to 2^53 times or over a power of ten up to 22. Nearly all numbers that people write are of this kind.
func (x number) float64() (y float64, exact bool) {
	if x.digits > 1<<53 {
		return 0, false
	}
	return x.near()
}

// float32 returns the number as 32-bit float, and whether that is how it is to be rounded.
func (x number) float32() (y float32, exact bool) {
	if x.digits > math.MaxInt64 || x.digits > 1<<53 && x.scale > 0 {
		return 0, false
	}
	near, ok := x.near()
	y, exact = narrow(near)
	return y, exact && ok
}

// near is the number as 64-bit float, rounded twice at most; ok is false where powers has not its power of ten.
func (x number) near() (y float64, ok bool) {
	switch y = float64(int64(x.digits)); {
	case x.scale < -maxPower || x.scale > maxPower:
		return 0, false
	case x.scale < 0:
		y /= powers[-x.scale]
	default:
		y *= powers[x.scale]
	}
	if x.negative {
		y = -y
	}
	return y, true
}

// digitsOf reads the digits from text[n] on behind those that make w, and returns where they end. Of more than
// maxDigits the number is worth nothing.
func digitsOf(w uint64, text []byte, n int) (uint64, int) {
	for len(text)-n >= 8 {
		v := binary.LittleEndian.Uint64(text[n:]) ^ zeros
		k := leading(v)
		if k == 8 {
			w = w*1e8 + eight(v)
			n += 8
			continue
		}
		return w*tens[k] + eight(v<<(64-8*k)), n + k
	}
	for ; n < len(text) && text[n]-'0' <= 9; n++ {
		w = w*10 + uint64(text[n]-'0')
	}
	return w, n
}

// Eight digits, and what leads from the value of none, as a byte that XOR with '0' gives, to its top bit.
const (
	zeros    = 0x3030303030303030
	notDigit = 0x7676767676767676
	tops     = 0x8080808080808080
)

var tens = [...]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

// leading is how many of eight bytes, of which the lowest is the first, are digits before another is. The bytes are
// XORed with zeros.
func leading(v uint64) int {
	// A carry is in the way of what follows only.
	return bits.TrailingZeros64((v+notDigit|v)&tops) / 8
}

// eight is the number that eight digits are, of which it takes the values: neighbours are joined to numbers of two digits, these
// to numbers of four, and these to one.
func eight(v uint64) uint64 {
	v = v*10 + v>>8
	const mask = 0x000000ff000000ff
	return (v&mask*(100+1000000<<32) + v>>16&mask*(1+10000<<32)) >> 32
}

// exponent reads a power of ten of up to four digits; size is 0 where there is none.
func exponent(text []byte) (power, size int) {
	sign, n := 1, 0
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		if n++; text[0] == '-' {
			sign = -1
		}
	}
	begin := n
	for ; n < len(text) && text[n]-'0' <= 9; n++ {
		if n-begin == 4 {
			return 0, 0
		}
		power = 10*power + int(text[n]-'0')
	}
	if n == begin {
		return 0, 0
	}
	return sign * power, n
}

// narrow returns a number as 32-bit float, if that is how what was rounded to it, perhaps twice, is to be rounded: not where
// it is close to the middle of two, or too small for all bits.
func narrow(x float64) (y float32, exact bool) {
	const least = 0x1p-126
	return float32(x), !midway(x) && (math.Abs(x) >= least || x == 0)
}

// midway says whether a number is half-way between two 32-bit floats, or within four units in its last place of that.
func midway(x float64) bool {
	const half, off = 1 << 28, 4
	return math.Float64bits(x)&(2*half-1)-(half-off) <= 2*off
}
