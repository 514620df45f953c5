package tensorjson

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

// maxDigits is how many decimal digits always fit a uint64.
const maxDigits = 19

// decimal is the value of a number token: ±mant × 10^exp.
type decimal struct {
	mant uint64
	exp  int
	sign uint64 // 1 for minus
	long bool   // more digits or a larger exponent than mant and exp can hold
}

// scanDecimal reads the number token at src[i]. ok is false where there is
// none; end is then the byte that is wrong.
//
// It is the inner loop of decoding: one function without calls for the common
// forms and with few branches that depend on the data.
func scanDecimal(src []byte, i int) (d decimal, end int, ok bool) {
	if uint(i) < uint(len(src)) && src[i] == '-' {
		d.sign = 1
	}
	i += int(d.sign)
	start, mant := i, uint64(0)
	for uint(i) < uint(len(src)) && isDigit(src[i]) {
		mant = mant*10 + uint64(src[i]-'0')
		i++
	}
	digits := i - start
	if digits == 0 || digits > 1 && src[start] == '0' {
		return d, min(i, start+1), false
	}
	if uint(i) < uint(len(src)) && src[i] == '.' {
		i++
		fraction := i
		for n := 8; n == 8 && uint(i+8) <= uint(len(src)); i += n {
			v := binary.LittleEndian.Uint64(src[i:])
			n = leadingDigits(v)
			mant = mant*tenTo[n] + parseEight(v<<(64-8*n))
		}
		for uint(i) < uint(len(src)) && isDigit(src[i]) { // near the end of src
			mant = mant*10 + uint64(src[i]-'0')
			i++
		}
		if i == fraction {
			return d, i, false
		}
		d.exp = fraction - i
		digits -= d.exp
	}
	d.mant = mant
	d.long = digits > maxDigits && significant(src[start:i]) > maxDigits
	if uint(i) < uint(len(src)) && src[i]|0x20 == 'e' {
		return scanExponent(src, i+1, d)
	}
	return d, i, true
}

// significant returns how many digits the number has behind leading zeros.
func significant(number []byte) (n int) {
	for _, c := range number {
		if isDigit(c) && (n > 0 || c != '0') {
			n++
		}
	}
	return n
}

// scanExponent reads the exponent behind the e.
func scanExponent(src []byte, i int, d decimal) (decimal, int, bool) {
	neg := false
	if i < len(src) && (src[i] == '-' || src[i] == '+') {
		neg = src[i] == '-'
		i++
	}
	start, exp := i, 0
	for ; i < len(src) && isDigit(src[i]); i++ {
		if exp < 1e6 {
			exp = exp*10 + int(src[i]-'0')
		}
	}
	if i == start {
		return d, i, false
	}
	d.long = d.long || exp >= 1e6
	if neg {
		exp = -exp
	}
	d.exp += exp
	return d, i, true
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// tenTo holds the powers of ten that move a mantissa by up to eight digits.
var tenTo = [9]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

// leadingDigits returns how many of v's bytes, from the lowest, are digits up
// to the first that is not. A carry spoils only the bytes above that one.
func leadingDigits(v uint64) int {
	v ^= 0x3030303030303030 // digits become 0 to 9
	over := (v + 0x7676767676767676 | v) & 0x8080808080808080
	return bits.TrailingZeros64(over) >> 3
}

// parseEight returns the number that eight digits spell, the first in the
// lowest byte, where a zero byte counts as '0': neighbours are joined to pairs, pairs to fours, fours to eight.
func parseEight(v uint64) uint64 {
	v = v & 0x0f0f0f0f0f0f0f0f * (10<<8 + 1) >> 8
	v = v & 0x00ff00ff00ff00ff * (100<<16 + 1) >> 16
	return v & 0x0000ffff0000ffff * (10000<<32 + 1) >> 32
}

// format is a binary floating-point format of IEEE 754.
type format struct {
	mantBits uint // stored bits of the mantissa
	minExp   int  // of a normal number
	bits     int  // 32 or 64
	infinity uint64
}

var (
	float32Format = format{23, -126, 32, 0xff << 23}
	float64Format = format{52, -1022, 64, 0x7ff << 52}
)

// bits rounds the decimal to the nearest floating-point number and returns its
// bits. ok is false where a 64-bit power of ten is not enough
// to decide; strconv can.
//
// With m the mantissa shifted to 64 bits and p the power of ten cut off to 64
// bits, the true product lies in [m×p, m×p+2^64): the upper word of m×p is
// right but for an addition of up to 2. Unless that interval holds the middle
// between two floats, rounding is certain.
func (d decimal) bits(f *format) (b uint64, ok bool) {
	if d.long || d.exp < minPow10 || d.exp > maxPow10 {
		return 0, false
	}
	if d.mant == 0 {
		return d.sign << (f.bits - 1), true
	}
	// No branch here depends on the digits: half of them would be mispredicted.
	shift := bits.LeadingZeros64(d.mant)
	hi, _ := bits.Mul64(d.mant<<(shift&63), pow10[d.exp-minPow10])
	norm := hi>>63 ^ 1 // a shift by one at the price of the interval's doubling
	hi <<= norm
	exp := 64 - shift + floorLog2Pow10(d.exp) - int(norm) // the value is hi/2^63 × 2^exp
	drop := (63 - f.mantBits) & 63
	half := uint64(1) << drop >> 1
	rest := hi & (half<<1 - 1)
	if exp < f.minExp || half-rest < 4 {
		return 0, false
	}
	b = hi>>drop + (half-rest)>>63                 // up where rest > half; a carry rightly raises the exponent
	b += uint64(exp-f.minExp) << (f.mantBits & 63) // b's top bit adds the missing 1
	if b >= f.infinity {
		return 0, false
	}
	return b | d.sign<<((f.bits-1)&63), true
}

// parseFloat returns the number token at src[i] as a value of the format,
// rounded as strconv.ParseFloat does. finite is false where it is too large.
func parseFloat(src []byte, i int, f *format) (v uint64, end int, ok, finite bool) {
	d, end, ok := scanDecimal(src, i)
	if !ok {
		return parseSpecial(src, i, end, f)
	}
	v, sure := d.bits(f)
	if !sure {
		x, err := strconv.ParseFloat(view(src[i:end]), f.bits)
		if math.IsInf(x, 0) && err != nil {
			return 0, end, true, false
		}
		return f.of(x), end, true, true
	}
	return v, end, true, true
}

// parseSpecial reads NaN, Infinity and -Infinity, which JSON does not know.
func parseSpecial(src []byte, i, bad int, f *format) (v uint64, end int, ok, finite bool) {
	for _, special := range specials {
		if word := special.word; len(src)-i >= len(word) && string(src[i:i+len(word)]) == word {
			return f.of(special.value), i + len(word), true, true
		}
	}
	return 0, bad, false, true
}

var specials = [...]struct {
	word  string
	value float64
}{{"NaN", math.NaN()}, {"Infinity", math.Inf(1)}, {"-Infinity", math.Inf(-1)}}

func (f *format) of(x float64) uint64 {
	if f.bits == 32 {
		return uint64(math.Float32bits(float32(x)))
	}
	return math.Float64bits(x)
}

// skipNumber returns the end of the number token at src[i].
func skipNumber(src []byte, i int) (end int, ok bool) {
	_, end, ok = scanDecimal(src, i)
	if !ok {
		_, end, ok, _ = parseSpecial(src, i, end, &float64Format)
	}
	return end, ok
}

// scanInteger reads an integer token. ok is false for anything else, for a
// fraction or exponent behind it, and for more than 64 bits.
func scanInteger(src []byte, i int) (v uint64, neg bool, end int, ok bool) {
	if i < len(src) && src[i] == '-' {
		neg = true
		i++
	}
	start := i
	for ; i < len(src) && isDigit(src[i]); i++ {
		d := uint64(src[i] - '0')
		if v > (math.MaxUint64-d)/10 {
			return 0, neg, i, false
		}
		v = v*10 + d
	}
	if i == start || src[start] == '0' && i > start+1 {
		return 0, neg, i, false
	}
	if i < len(src) && (src[i] == '.' || src[i]|0x20 == 'e') {
		return 0, neg, i, false
	}
	return v, neg, i, true
}
