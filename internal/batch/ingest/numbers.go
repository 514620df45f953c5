package ingest

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
)

// window is how many bytes numbers looks at for each, which has to be there.
const window = 32

// numbers reads floating-point numbers of so many bytes off a text until dst is full. Each ends with a delimiter, the
// last perhaps with the text. It returns where the next cell begins, behind a delimiter, which is len(text)+1 where the text has ended; -1 for
// a text that is not that simple.
//
// Of most numbers, which have a digit, a point and up to eight digits, it takes the sign and the digits at once: nothing depends on what
// they are but where the next number begins.
func numbers(dst []byte, size int, text []byte, delimiter byte) int {
	at := 0
	for out := 0; out < len(dst); out += size {
		if len(text)-at < window {
			if at = anyNumber(dst[out:out+size], text, at, delimiter); at < 0 {
				return -1
			}
			continue
		}
		next := (*[window]byte)(text[at:])
		head, part, sign := binary.LittleEndian.Uint32(next[:]), binary.LittleEndian.Uint64(next[2:]), uint(0)
		signed := binary.LittleEndian.Uint64(next[3:])
		if head&0xff == '-' {
			sign = 1
		}
		if sign != 0 {
			head, part = head>>8, signed
		}
		part ^= zeros
		stop := (part + notDigit | part) & tops
		n := 2 + sign + uint(bits.TrailingZeros64(stop))>>3
		first := head&0xff - '0'
		var x float64
		exact := true
		if first <= 9 && head>>8&0xff == '.' && next[n] == delimiter {
			x = float64(int64(uint64(first)*1e8+eight(part&(stop&-stop>>7-1)))) / 1e8
		} else {
			x, exact, n = longNumber(next, sign, delimiter)
		}
		switch {
		case !exact && size == 8 || n == 0 || size == 4 && midway(x):
			if at = anyNumber(dst[out:out+size], text, at, delimiter); at < 0 {
				return -1
			}
			continue
		case size == 8:
			binary.LittleEndian.PutUint64(dst[out:], math.Float64bits(x)|uint64(sign)<<63)
		default:
			binary.LittleEndian.PutUint32(dst[out:], math.Float32bits(float32(x))|uint32(sign)<<31)
		}
		at += int(n) + 1
	}
	return at
}

// longNumber reads a number of up to eight digits before the point, sixteen behind it, and 18 in all, which begins behind
// so many bytes, and returns how many it ends with; 0 for all others. It is exact where it was rounded once at most, else rounded twice.
func longNumber(next *[window]byte, sign uint, delimiter byte) (x float64, exact bool, n uint) {
	w, k := upToEight(next, sign)
	n = sign + k
	digits, places := k, uint(0)
	if next[n] == '.' {
		v, k := upToEight(next, n+1)
		w, n, places = w*tens[k]+v, n+1+k, k
		if k == 8 {
			v, k = upToEight(next, n)
			w, n, places = w*tens[k]+v, n+k, places+k
		}
	}
	if digits += places; digits == 0 || digits > 18 || next[n] != delimiter {
		return 0, false, 0
	}
	x = float64(int64(w))
	if places > 0 {
		x /= powers[places]
	}
	return x, w <= 1<<53, n
}

// upToEight is the number that up to eight digits are, and how many.
func upToEight(next *[window]byte, at uint) (w uint64, n uint) {
	v := binary.LittleEndian.Uint64(next[at:]) ^ zeros
	k := leading(v)
	return eight(v << (64 - 8*k)), uint(k)
}

// anyNumber reads one number of whatever form.
func anyNumber(dst, text []byte, at int, delimiter byte) int {
	if at > len(text) {
		return -1
	}
	cell := text[at:]
	if n := bytes.IndexByte(cell, delimiter); n >= 0 {
		cell = cell[:n]
	}
	if _, wrong := appendFloat(dst[:0], 8*len(dst), cell); wrong != nil {
		return -1
	}
	return at + len(cell) + 1
}
