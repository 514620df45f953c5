package ingest

import (
	"bytes"
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/parquet-go/parquet-go"
)

// floats is a page of lists of 32-bit floats without nulls that begins with a row. Rows
// are taken whole: looking at each value for itself takes ten times as long as most models do for
// it.
type floats struct {
	values []byte // little-endian
	levels []byte // for each value whether a row begins with it: 0
	at     int    // of them, the next row's first
}

// open takes a page, and says whether it is such.
func (f *floats) open(page parquet.Page) bool {
	*f = floats{}
	data, dictionary := page.Data(), page.Dictionary()
	levels := page.RepetitionLevels()
	if page.Type().Kind() != parquet.Float || page.NumNulls() > 0 || len(levels) == 0 || int64(len(levels)) != page.NumValues() || levels[0] != 0 {
		return false
	}
	var values []byte
	if dictionary == nil {
		values = bytesOf(data.Float())
	} else {
		entries := dictionary.Page().Data()
		all := entries.Float()
		values = make([]byte, 0, 4*len(levels))
		for _, i := range data.Int32() {
			values = binary.LittleEndian.AppendUint32(values, math.Float32bits(all[i]))
		}
	}
	if len(values) != 4*len(levels) { // empty lists have a level, and no value
		return false
	}
	f.values, f.levels = values, levels
	return true
}

// row returns the next row's values, and nil where it is not known to end in the page.
func (f *floats) row() []byte {
	if f.at >= len(f.levels) {
		return nil
	}
	n := bytes.IndexByte(f.levels[f.at+1:], 0) + 1
	if n == 0 {
		return nil
	}
	row := f.values[4*f.at : 4*(f.at+n)]
	f.at += n
	return row
}

// rest returns the values that row does not.
func (f *floats) rest() []byte { return f.values[4*f.at:] }

// pass goes on behind so many rows, as far as they end in the page.
func (f *floats) pass(rows int64) {
	for ; rows > 0 && f.row() != nil; rows-- {
	}
}

// float32At returns a value of a row.
func float32At(row []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(row[4*i:]))
}

// appendFloats appends values to a tensor.
func appendFloats(dst []byte, t Type, row []byte) (_ []byte, wrong *RowError) {
	switch t {
	case Bytes, "BOOL":
		return dst, bad(CodeType, "a value of the type %s cannot be %s", parquet.Float, t)
	case "FP32":
		return append(dst, row...), nil
	}
	for i := range len(row) / 4 {
		if dst, wrong = appendReal(dst, t, float64(float32At(row, i))); wrong != nil {
			break
		}
	}
	return dst, wrong
}

// bytesOf returns numbers as they are in tensors.
func bytesOf(values []float32) []byte {
	if littleEndian && len(values) > 0 {
		return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values))
	}
	all := make([]byte, 0, 4*len(values))
	for _, x := range values {
		all = binary.LittleEndian.AppendUint32(all, math.Float32bits(x))
	}
	return all
}

// littleEndian says that numbers are in memory as they are in tensors.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1
