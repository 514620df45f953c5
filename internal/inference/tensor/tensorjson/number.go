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
	neg  bool
	long bool // more digits or a larger exponent than mant and exp can hold
}

// scanDecimal reads the number token at src[i]. ok is false where there is
// none; end is then the byte that is wrong.
func scanDecimal(src []byte, i int) (d decimal, end int, ok bool) {
	if i < len(src) && src[i] == '-' {
		d.neg = true
		i++
	}
	start := i // of the significant digits
	d.mant, i = scanDigits(src, i, 0)
	if i == start || src[start] == '0' && i > start+1 {
		return d, min(i, start+1), false
	}
	digits := i - start
	if i < len(src) && src[i] == '.' {
		i++
		fraction := i
		if d.mant == 0 { // zeros up to the first other digit are not significant
			for i < len(src) && src[i] == '0' {
				i++
			}
			digits = 0
		}
		start = i
		d.mant, i = scanDigits(src, i, d.mant)
		if i == fraction {
			return d, i, false
		}
		digits += i - start
		d.exp = fraction - i
	}
	d.long = digits > maxDigits
	if i < len(src) && src[i]|0x20 == 'e' {
		return scanExponent(src, i+1, d)
	}
	return d, i, true
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

// scanDigits appends the digits at src[i:] to mant, eight at a time where it
// can. More than maxDigits of them wrap around.
func scanDigits(src []byte, i int, mant uint64) (uint64, int) {
	for i+8 <= len(src) {
		v := binary.LittleEndian.Uint64(src[i:])
		if !eightDigits(v) {
			break
		}
		mant = mant*1e8 + parseEight(v)
		i += 8
	}
	for i < len(src) && isDigit(src[i]) {
		mant = mant*10 + uint64(src[i]-'0')
		i++
	}
	return mant, i
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// eightDigits reports whether each byte of v is '0' to '9': its high nibble is
// 3, and stays so when 6 is added.
func eightDigits(v uint64) bool {
	const high = 0xf0f0f0f0f0f0f0f0
	return v&high|(v+0x0606060606060606)&high>>4 == 0x3333333333333333
}

// parseEight returns the number that eight digits spell, the first in the
// lowest byte: neighbours are joined to pairs, pairs to fours, fours to eight.
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
}

var (
	float32Format = format{23, -126, 32}
	float64Format = format{52, -1022, 64}
)

// bits rounds the decimal to the nearest floating-point number and returns its
// bits without the sign. ok is false where a 64-bit power of ten is not enough
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
		return 0, true
	}
	shift := bits.LeadingZeros64(d.mant)
	hi, _ := bits.Mul64(d.mant<<shift, pow10[d.exp-minPow10])
	exp := 64 - shift + floorLog2Pow10(d.exp) // the value is hi/2^63 × 2^exp
	if hi>>63 == 0 {
		hi <<= 1 // at the price of the interval's doubling
		exp--
	}
	drop := 63 - f.mantBits
	rest, half := hi&(1<<drop-1), uint64(1)<<(drop-1)
	if exp < f.minExp || rest+4 > half && rest <= half {
		return 0, false
	}
	b = hi >> drop
	if rest > half {
		b++ // a carry out of the mantissa is right: it raises the exponent
	}
	b += uint64(exp-f.minExp) << f.mantBits // b's top bit adds the missing 1
	if b >= 1<<(f.bits-1)-1<<f.mantBits {
		return 0, false // infinite
	}
	return b, true
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
	if d.neg {
		v |= 1 << (f.bits - 1)
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
