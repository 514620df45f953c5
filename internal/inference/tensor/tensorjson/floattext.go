package tensorjson

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

const (
	zeros      = 0x3030303030303030   // "00000000"
	pointZeros = zeros - ('0'-'.')<<8 // "0.000000"
)

// layout says where the characters of a plain number go for a position of its
// decimal point.
type layout struct {
	first uint8 // digit
	point uint8
	tail  uint8 // the digits behind the point
	shift uint8 // from all digits but the first to the tail, in bits
	least uint8 // length: there is at least one digit behind the point
	extra uint8 // length beyond that of the digits
}

const (
	minPoint = -5 // 0.00000ddd
	maxPoint = 21 // ddd000000000000000000.0
)

// layouts are those of the numbers from 1e-6 up to 1e21, at point-minPoint.
var layouts = func() (table [maxPoint - minPoint + 1]layout) {
	for point := minPoint; point <= maxPoint; point++ {
		p, l := uint8(point), &table[point-minPoint]
		if point <= 0 { // 0.000ddd
			*l = layout{first: 2 - p, point: 1, tail: 3 - p, extra: 2 - p}
		} else { // ddd.ddd
			*l = layout{point: p, tail: p + 1, shift: 8 * (p - 1), least: p + 2, extra: 1}
		}
	}
	return table
}()

// putDigits writes a comma and the number tens.last × 10^exp, with tens of 14
// to 16 digits.
func putDigits(text *[floatRoom]byte, sign int, tens, last uint64, exp int) int {
	digits, more := eightDigits(tens/1e8), eightDigits(tens%1e8)
	lead := bits.TrailingZeros64(digits) & 0x18 // 8 for each leading zero
	first, rest := byte(digits>>lead), (digits>>8|more<<56)>>lead|more>>8<<(64-lead)
	more = (more>>8 | last<<56) >> lead
	size := (bits.Len64(more) + 79) / 8
	if more == 0 {
		size = (bits.Len64(rest) + 15) / 8
	}
	point := exp + 16 - lead/8
	text[0], text[1] = ',', '-'
	at := 1 + sign
	number := text[at:]
	if point < minPoint || point > maxPoint {
		number[0], number[1] = first+'0', '.'
		binary.LittleEndian.PutUint64(number[2:], rest+zeros)
		binary.LittleEndian.PutUint64(number[10:], more+zeros)
		if at++; size > 1 {
			at += size
		}
		return len(appendExponent(text[:at], point-1))
	}
	l := &layouts[point-minPoint]
	binary.LittleEndian.PutUint64(number, pointZeros)
	number[l.first] = first + '0'
	behind := number[l.first+1:]
	binary.LittleEndian.PutUint64(behind, rest+zeros)
	binary.LittleEndian.PutUint64(behind[8:], more+zeros)
	binary.LittleEndian.PutUint64(behind[16:], zeros)
	number[l.point] = '.'
	tail, s := number[l.tail:], l.shift
	binary.LittleEndian.PutUint64(tail, (rest>>s|more<<(64-s)|more>>(s-64))+zeros) // a shift beyond 63 makes 0
	binary.LittleEndian.PutUint64(tail[8:], more>>s+zeros)
	return at + max(size+int(l.extra), int(l.least))
}

// appendExponent appends a decimal exponent with its sign.
func appendExponent(dst []byte, exp int) []byte {
	if dst = append(dst, 'e'); exp > 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, int64(exp), 10)
}

// putRare writes a comma and a float that the fast way does not do.
func putRare(text *[floatRoom]byte, f float64, size int) int {
	return len(appendRare(append(text[:0], ','), f, size))
}

func appendRare(dst []byte, f float64, size int) []byte {
	switch {
	case f == 0:
		if math.Signbit(f) {
			dst = append(dst, '-')
		}
		return append(dst, "0.0"...)
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	if abs := math.Abs(f); abs < 1e-6 || abs >= 1e21 {
		return trimExponent(strconv.AppendFloat(dst, f, 'e', -1, size))
	}
	dst = strconv.AppendFloat(dst, f, 'f', -1, size)
	if f == math.Trunc(f) {
		dst = append(dst, ".0"...)
	}
	return dst
}

// trimExponent turns the e-09 that strconv ends with into e-9.
func trimExponent(dst []byte) []byte {
	if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		return append(dst[:n-2], dst[n-1])
	}
	return dst
}

// eightDigits returns the decimal digits of v < 10^8 as a byte each, the first
// in the lowest: it splits eight into fours, these into pairs, these into digits.
func eightDigits(v uint64) uint64 {
	v = v<<32 - v*109951163>>40*(10000<<32-1)
	v = v<<16 - v*10486>>20&0x0000007f_0000007f*(100<<16-1)
	return v<<8 - v*103>>10&0x000f000f_000f000f*(10<<8-1)
}
