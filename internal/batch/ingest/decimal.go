package ingest

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// powers are the powers of ten that a 64-bit float has exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// maxDigits is how many decimal digits always fit into 64 bits.
const maxDigits = 19

// decimal reads the number that text begins with, in plain decimal, and returns how many
// bytes it has; 0 for one that is none of those which a single operation rounds
// right (Clinger 1990): whole numbers up to 2^53 times or over a power of ten up to 22.
// Nearly all numbers that people and programs write are of this kind.
func decimal(text []byte) (x float64, n int) {
	if x, n = fraction(text); n > 0 {
		return x, n
	}
	negative := len(text) > 0 && text[0] == '-'
	if negative || len(text) > 0 && text[0] == '+' {
		n++
	}
	w, begin := uint64(0), n
	w, n = digitsOf(w, text, n)
	whole, scale := n-begin, 0
	if n < len(text) && text[n] == '.' {
		n++
		point := n
		w, n = digitsOf(w, text, n)
		scale = point - n
	}
	if count := whole - scale; count == 0 || count > maxDigits || w > 1<<53 {
		return 0, 0
	}
	if n < len(text) && text[n]|0x20 == 'e' {
		power, size := exponent(text[n+1:])
		if size == 0 {
			return 0, 0
		}
		scale, n = scale+power, n+1+size
	}
	switch x = float64(w); {
	case scale < -22 || scale > 22:
		return 0, 0
	case scale < 0:
		x /= powers[-scale]
	default:
		x *= powers[scale]
	}
	if negative {
		x = -x
	}
	return x, n
}

// fraction is decimal of a digit, a point and up to eight digits behind it, with more text behind them: nothing in it
// depends on how many they are but where the next begins. The digits that are not there are zeros, so
// that what is divided by is always the same. n is 0 for all other text.
func fraction(text []byte) (x float64, n int) {
	if len(text) < 11 || text[1] != '.' || text[0]-'0' > 9 {
		return 0, 0
	}
	v := binary.LittleEndian.Uint64(text[2:])
	k := leading(v)
	if end := text[2+k]; k == 0 || end-'0' <= 9 || end|0x20 == 'e' {
		return 0, 0
	}
	digits := uint64(1)<<(8*k) - 1
	w := uint64(text[0]-'0')*1e8 + eight(v&digits|zeros&^digits)
	return float64(int64(w)) / 1e8, 2 + k
}

// digitsOf reads the digits from text[n] on behind those that make w, and returns where they end. Of more than
// maxDigits the number is worth nothing.
func digitsOf(w uint64, text []byte, n int) (uint64, int) {
	for len(text)-n >= 8 {
		v := binary.LittleEndian.Uint64(text[n:])
		k := leading(v)
		if k == 8 {
			w = w*1e8 + eight(v)
			n += 8
			continue
		}
		return w*tens[k] + eight((v-zeros)<<(64-8*k)+zeros), n + k
	}
	for ; n < len(text) && text[n]-'0' <= 9; n++ {
		w = w*10 + uint64(text[n]-'0')
	}
	return w, n
}

// zeros are eight digits.
const zeros = 0x3030303030303030

var tens = [...]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7}

// leading is how many of eight bytes, of which the lowest is the first, are digits before another is.
func leading(v uint64) int {
	const high = 0xf0f0f0f0f0f0f0f0
	// Of a digit the upper half is 3, also with 6 added. A carry is in the way of what follows only.
	other := (v&high | (v+0x0606060606060606)&high>>4) ^ 0x3333333333333333
	return bits.TrailingZeros64(other) / 8
}

// eight is the number that eight digits are: neighbours are joined to numbers of two digits, these
// to numbers of four, and these to one.
func eight(v uint64) uint64 {
	v -= zeros
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

// narrow returns a number as 32-bit float, if that is how what it was rounded from is to be rounded: a number
// half-way between two has to be looked at before it is rounded first, and so have those that are too small for
// all bits.
func narrow(x float64) (float32, bool) {
	const least = 0x1p-126
	b := math.Float64bits(x)
	return float32(x), b&(1<<29-1) != 1<<28 && (math.Abs(x) >= least || b<<1 == 0)
}
