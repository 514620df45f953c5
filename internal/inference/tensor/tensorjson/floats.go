package tensorjson

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// floatRoom is the room that a comma and a float's text need; it may be
// scribbled on.
const floatRoom = 48

// makeRoom grows a buffer of n bytes and returns it with all its capacity.
func makeRoom(dst []byte, n int) []byte {
	dst = slices.Grow(dst[:n], floatRoom)
	return dst[:cap(dst)]
}

// appendFloat32s appends a comma and each float.
func appendFloat32s(dst, data []byte) []byte {
	n := len(dst)
	dst = dst[:cap(dst)]
	for i := 4; i <= len(data); i += 4 {
		if n+floatRoom > len(dst) {
			dst = makeRoom(dst, n)
		}
		text, b := (*[floatRoom]byte)(dst[n:n+floatRoom]), binary.LittleEndian.Uint32(data[i-4:i])
		size := putFloat32(text, b)
		if size == 0 {
			size = putAnyFloat32(text, b)
		}
		n += size
	}
	return dst[:n]
}

// putFloat32 writes a comma and the float with the bits, and returns their
// length, or 0 if it is one that putAnyFloat32 must write.
//
// It writes whole words of eight characters, the later over the excess of the
// earlier, and takes their places from a table: of branches that depend on the
// digits, half would be mispredicted. It calls nothing, so it needs no frame;
// masks and the bit set in digits spare checks.
func putFloat32(text *[floatRoom]byte, b uint32) int {
	s := &scales32[b>>23&0xff]
	c := uint64(b&(1<<23-1) | 1<<23)
	tens, frac := bits.Mul64(s.power, c)
	reach := s.reach(c)
	if c == 1<<23 && lopsided(frac, reach) {
		return 0
	}
	tens, last := roundDigits(tens, frac, reach)
	digits := eightDigits(tens)
	lead := bits.TrailingZeros64(digits|1<<24) & 0x18 // 8 for each leading zero
	point := s.exp + 8 - lead/8
	if uint(point-minPoint) > 8-minPoint {
		return 0
	}
	first, rest := byte(digits>>lead), (digits>>8|last<<56)>>lead
	text[0], text[1] = ',', '-'
	sign := b >> 31
	number := (*[40]byte)(text[1+sign:])
	l := &layouts[point-minPoint]
	start := int(l.first & 15)
	binary.LittleEndian.PutUint64(number[:], pointZeros)
	number[start] = first + '0'
	binary.LittleEndian.PutUint64(number[start+1:], rest+zeros)
	number[l.point&15] = '.'
	binary.LittleEndian.PutUint64(number[l.tail&15:], rest>>(l.shift&63)+zeros)
	size := (bits.Len64(rest) + 15) / 8
	return 1 + int(sign) + max(size+int(l.extra), int(l.least))
}

// putAnyFloat32 writes a comma and the float with the bits.
func putAnyFloat32(text *[floatRoom]byte, b uint32) int {
	s := &scales32[b>>23&0xff]
	c := uint64(b&(1<<23-1) | 1<<23)
	tens, frac := bits.Mul64(s.power, c)
	reach := s.reach(c)
	if s.exp == rare || c == 1<<23 && lopsided(frac, reach) {
		return putRare(text, float64(math.Float32frombits(b)), 32)
	}
	tens, last := roundDigits(tens, frac, reach)
	return putDigits(text, int(b>>31), (tens*10+last)*1e7, 0, s.exp-8)
}

// appendFloat64s appends a comma and each float.
func appendFloat64s(dst, data []byte) []byte {
	n := len(dst)
	dst = dst[:cap(dst)]
	for ; len(data) >= 8; data = data[8:] {
		if len(dst)-n < floatRoom {
			dst = makeRoom(dst, n)
		}
		n += putFloat64((*[floatRoom]byte)(dst[n:]), binary.LittleEndian.Uint64(data))
	}
	return dst[:n]
}

// putFloat64 writes a comma and the float with the bits, and returns their length.
func putFloat64(text *[floatRoom]byte, b uint64) int {
	i := int(b>>52&0x7ff) - (1023 + 52) - minQ
	if uint(i) >= uint(len(scales64)) {
		return putRare(text, math.Float64frombits(b), 64)
	}
	c, s := b&(1<<52-1)|1<<52, &scales64[i]
	tens, frac := bits.Mul64(s.power, c)
	low, _ := bits.Mul64(s.low, c)
	frac, carry := bits.Add64(frac, low, 0)
	reach := s.reach(c)
	if unsure(frac, reach) || c == 1<<52 && lopsided(frac, reach) {
		return putRare(text, math.Float64frombits(b), 64)
	}
	tens, last := roundDigits(tens+carry, frac, reach)
	return putDigits(text, int(b>>63), tens, last, s.exp)
}
