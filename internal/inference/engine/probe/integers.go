package probe

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"

	"sluice/internal/inference/tensor"
)

// An integer is often an index, and one out of range makes the model fail, so
// that nothing is learned from the row. Ordinary rows therefore have zeros and
// ones alone, and the range of the others is found by trying.
const narrow = 2

// searchTime is after how long ranges are not narrowed down further.
const searchTime = 100 * time.Millisecond

// widen finds, for each integer input, the widest range from zero in which a
// row still runs.
func (p *prober) widen() {
	until := time.Now().Add(searchTime)
	for i, port := range p.spec.Signature.Inputs {
		if integers, ok := span(port.Datatype); ok {
			p.ranges[i] = p.widest(i, integers, until)
		}
	}
}

// widest returns the widest range of one input: the first of a few that runs,
// and then, by bisection, what lies between it and the one before.
func (p *prober) widest(input int, integers int64, until time.Time) int64 {
	runs, fails := int64(narrow), int64(0)
	for _, n := range [...]int64{1 << 18, 1 << 15, 1000, 100} {
		if n = min(n, integers); n == fails {
			continue // the type is narrower than both
		}
		if p.reaches(input, n-1) {
			runs = n
			break
		}
		fails = n
	}
	for fails-runs > 1 && time.Now().Before(until) {
		if n := (runs + fails) / 2; p.reaches(input, n-1) {
			runs = n
		} else {
			fails = n
		}
	}
	return runs
}

// reaches reports whether an otherwise ordinary row runs with v throughout an
// input.
func (p *prober) reaches(input int, v int64) bool {
	r := p.row(ordinary)
	in := &r.Inputs[input]
	size := len(in.Data)
	for in.Data = in.Data[:0]; len(in.Data) < size; {
		in.Data = appendInteger(in.Data, in.Datatype, v)
	}
	return p.try(r) == nil
}

// below returns the end of the range from which a row's integers are drawn, at
// most n. A wide row has any order of magnitude: neighbours disturb one with
// small integers the most.
func (p *prober) below(n int64, k kind) int64 {
	if k == wide || k == large {
		return min(n, 2<<p.rand.IntN(bits.Len64(uint64(n))))
	}
	return n
}

// integer returns element i of a row, in [0, n) unless it is to be hostile.
func (p *prober) integer(d tensor.Datatype, n int64, k kind, i int) int64 {
	switch k {
	case padding:
		return 0
	case wide, large:
		return p.rand.Int64N(n)
	case extreme:
		return [...]int64{n - 1, 0}[i%2]
	case hostile:
		switch greatest := int64(math.MaxInt64) >> (64 - 8*d.Size()); d {
		case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64:
			return [...]int64{greatest, -greatest - 1}[p.rand.IntN(2)]
		}
		return -1 // all bits set: the greatest unsigned integer
	default:
		return int64(min(p.rand.IntN(4), 1))
	}
}

// span returns how many of an integer type's values are not negative, or more
// than any range that is tried; false for other types.
func span(d tensor.Datatype) (int64, bool) {
	switch d {
	case tensor.Int8:
		return 1 << 7, true
	case tensor.Uint8:
		return 1 << 8, true
	case tensor.Int16:
		return 1 << 15, true
	case tensor.Uint16:
		return 1 << 16, true
	case tensor.Int32, tensor.Uint32, tensor.Int64, tensor.Uint64:
		return 1 << 31, true
	}
	return 0, false
}

// appendInteger appends the low bytes of v.
func appendInteger(data []byte, d tensor.Datatype, v int64) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(v))
	return append(data, b[:d.Size()]...)
}
