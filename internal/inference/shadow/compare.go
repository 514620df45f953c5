package shadow

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"

	"sluice/internal/inference/tensor"
)

// compare adds a pair of tensors, of which one may be missing, and marks the rows
// that differ.
func (o *Output) compare(a, b *tensor.Tensor, c *Config, m *marks) {
	o.Tensors++
	if a == nil || b == nil || a.Datatype != b.Datatype || !a.Shape.Equal(b.Shape) || a.Validate() != nil || b.Validate() != nil {
		o.Incomparable++
		m.differ(math.MaxFloat64, 0)
		return
	}
	elements, _ := a.Shape.Elements() // Validate has seen to it
	row := int64(1)
	if len(a.Shape) > 1 {
		row = max(a.Shape[len(a.Shape)-1], 1)
	}
	compared := min(elements, c.MaxElements) / row * row // whole rows
	o.Skipped += elements - compared
	o.Elements += compared
	m.output(a, elements, compared)
	if a.Datatype == tensor.Bytes {
		o.texts(a.Data, b.Data, compared, m)
		return
	}
	size := int64(a.Datatype.Size())
	ranked := row > 1
	if !ranked {
		row = max(compared, 1)
	}
	within := c.within(a.Datatype, ranked)
	for from := int64(0); from < compared; from += row {
		x, y := a.Data[from*size:(from+row)*size], b.Data[from*size:(from+row)*size]
		m.at = from
		o.elements(x, y, row, a.Datatype, within, m)
		if ranked && o.row(x, y, readers[a.Datatype], row, c.Top) && within.argmax {
			m.differ(1, 0)
		}
	}
}

// texts compares BYTES, which are equal or not and have no distance.
func (o *Output) texts(a, b []byte, n int64, m *marks) {
	for at := range n {
		i, j := 4+binary.LittleEndian.Uint32(a), 4+binary.LittleEndian.Uint32(b)
		if !bytes.Equal(a[4:i], b[4:j]) {
			o.Differ++
			o.Unlike++
			m.at = at
			m.differ(math.MaxFloat64, 0)
		} else {
			o.ULPs[0]++
		}
		a, b = a[i:], b[j:]
	}
}

// elements compares n numbers, from m.at on, with as many others.
func (o *Output) elements(x, y []byte, n int64, d tensor.Datatype, w within, m *marks) {
	if bytes.Equal(x, y) {
		o.ULPs[0] += n
		return
	}
	read, from := readers[d], m.at
	for i := range n {
		a, b := read(x, i), read(y, i)
		if a.key == b.key {
			o.ULPs[0]++
			continue
		}
		m.at = from + i
		distance, known := o.differ(a, b, d)
		switch {
		case !known:
			m.differ(math.MaxFloat64, 0)
		case !w.argmax && distance > w.absolute+w.relative*math.Abs(a.value):
			m.differ(min(distance/(w.absolute+w.relative*math.Abs(a.value)), math.MaxFloat64), distance)
		}
	}
	m.at = from
}

// differ adds two numbers that are not equal, and returns their distance if they
// have one.
func (o *Output) differ(x, y number, d tensor.Datatype) (distance float64, known bool) {
	o.Differ++
	if math.IsNaN(x.value) || math.IsNaN(y.value) || math.IsInf(x.value, 0) || math.IsInf(y.value, 0) {
		o.Unlike++
		return 0, false
	}
	ulps := max(x.key, y.key) - min(x.key, y.key)
	distance = float64(ulps) // of integers: exact where float64 is
	if isFloat(d) {
		distance = min(math.Abs(x.value-y.value), math.MaxFloat64)
	}
	o.Sum = min(o.Sum+distance, math.MaxFloat64)
	o.Max = max(o.Max, distance)
	o.MaxULP = max(o.MaxULP, ulps)
	o.ULPs[bits.Len64(ulps)]++
	return distance, true
}

// row compares the greatest elements of two rows, and says whether the very
// greatest is another.
func (o *Output) row(a, b []byte, read reader, n int64, k int) (flipped bool) {
	o.Rows++
	if bytes.Equal(a, b) {
		kept := min(int64(k), n)
		o.TopSum, o.Kept = o.TopSum+kept, o.Kept+kept
		return false
	}
	var x, y top
	x.of(a, read, n, k)
	y.of(b, read, n, k)
	if flipped = x.index[0] != y.index[0]; flipped {
		o.Flips++
	}
	o.TopSum += int64(x.n)
	for _, i := range x.index[:x.n] {
		for _, j := range y.index[:y.n] {
			if i == j {
				o.Kept++
			}
		}
	}
	return flipped
}

// top has the indexes of the greatest elements of a row, the greatest first.
type top struct {
	n     int
	key   [MaxTop]uint64
	index [MaxTop]int64
}

// of finds the k greatest of n elements: equal ones by their place.
func (t *top) of(data []byte, read reader, n int64, k int) {
	for i := range n {
		key := read(data, i).key
		if t.n == k && key <= t.key[k-1] {
			continue
		}
		if t.n < k {
			t.n++
		}
		at := t.n - 1
		for ; at > 0 && t.key[at-1] < key; at-- {
			t.key[at], t.index[at] = t.key[at-1], t.index[at-1]
		}
		t.key[at], t.index[at] = key, i
	}
}

// Greatest returns the index of a tensor's greatest element, by the rules for rows. The
// tensor is one of numbers, and not empty.
func Greatest(t *tensor.Tensor) int64 {
	n, _ := t.Shape.Elements() // whoever has the tensor has checked it
	var x top
	x.of(t.Data, readers[t.Datatype], n, 1)
	return x.index[0]
}
