// Package cell writes single values as text, alike in every format: numbers in
// their shortest form that reads back as the same number, instants as RFC 3339
// in a time zone. It is where an encoder's time goes, so the common cases have
// ways of their own; each is tested against the standard library.
package cell

import (
	"math"
	"strconv"
)

// AppendFloat appends the shortest decimal that reads back as v, with an
// exponent only below 1e-6 and from 1e21 on, as ECMAScript does it. What is no
// number is NaN, Infinity or -Infinity, as protobuf's JSON mapping says it.
func AppendFloat(dst []byte, v float64) []byte {
	if n, ok := scaled(v); ok {
		return appendMillionths(dst, n)
	}
	return appendShortest(dst, v, 64)
}

// AppendFloat32 is AppendFloat with the shortest decimal that reads back as the
// same 32-bit float.
func AppendFloat32(dst []byte, v float32) []byte { return appendShortest(dst, float64(v), 32) }

// scaled returns v as a number of millionths, where it is one: a decimal of at
// most 15 digits is the only one of so few that reads back as its float, so
// there is no shorter one.
func scaled(v float64) (int64, bool) {
	const most = 1e15
	m := math.Round(v * 1e6)
	if !(math.Abs(m) < most) || m/1e6 != v || v == 0 && math.Signbit(v) {
		return 0, false
	}
	return int64(m), true
}

// appendMillionths appends n / 1e6 without trailing zeros.
func appendMillionths(dst []byte, n int64) []byte {
	if n < 0 {
		dst, n = append(dst, '-'), -n
	}
	dst = strconv.AppendInt(dst, n/1e6, 10)
	f := n % 1e6
	if f == 0 {
		return dst
	}
	digits := 6
	for f%10 == 0 {
		f /= 10
		digits--
	}
	dst = append(dst, ".000000"[:1+digits]...)
	for i := len(dst) - 1; f > 0; i-- {
		dst[i] = byte('0' + f%10)
		f /= 10
	}
	return dst
}

func appendShortest(dst []byte, v float64, bits int) []byte {
	abs := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return append(dst, "NaN"...)
	case math.IsInf(v, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(v, -1):
		return append(dst, "-Infinity"...)
	case abs != 0 && (abs < 1e-6 || abs >= 1e21):
		return strconv.AppendFloat(dst, v, 'e', -1, bits)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, bits)
}

// Finite reports whether v is a number.
func Finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// AppendInt appends an integer.
func AppendInt(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }

// AppendBool appends true or false.
func AppendBool(dst []byte, v bool) []byte { return strconv.AppendBool(dst, v) }
