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
	values []float32
	levels []byte // for each value whether a row begins with it: 0
	at     int
}

// open takes a page, and says whether it is such.
func (f *floats) open(page parquet.Page) bool {
	f.values, f.levels, f.at = nil, nil, 0
	data, dictionary := page.Data(), page.Dictionary()
	levels := page.RepetitionLevels()
	switch {
	case page.Type().Kind() != parquet.Float || page.NumNulls() > 0 || len(levels) == 0 || int64(len(levels)) != page.NumValues() || levels[0] != 0:
		return false
	case dictionary == nil:
		f.values = data.Float()
	default:
		entries := dictionary.Page().Data()
		all := entries.Float()
		f.values = make([]float32, 0, len(levels))
		for _, i := range data.Int32() {
			f.values = append(f.values, all[i])
		}
	}
	if len(f.values) != len(levels) { // empty lists have a level, and no value
		f.values = nil
		return false
	}
	f.levels = levels
	return true
}

// row returns the next row's values, and nil where it is not known to end in the page.
func (f *floats) row() []float32 {
	if f.at >= len(f.values) {
		return nil
	}
	n := bytes.IndexByte(f.levels[f.at+1:], 0) + 1
	if n == 0 {
		return nil
	}
	row := f.values[f.at : f.at+n]
	f.at += n
	return row
}

// appendFloats appends values to a tensor.
func appendFloats(dst []byte, t Type, row []float32) (_ []byte, wrong *RowError) {
	if t == Bytes || t == "BOOL" {
		return dst, bad(CodeType, "a value of the type %s cannot be %s", parquet.Float, t)
	}
	if t != "FP32" {
		for _, x := range row {
			if dst, wrong = appendReal(dst, t, float64(x)); wrong != nil {
				break
			}
		}
		return dst, wrong
	}
	if littleEndian && len(row) > 0 {
		return append(dst, unsafe.Slice((*byte)(unsafe.Pointer(&row[0])), 4*len(row))...), nil
	}
	for _, x := range row {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
	}
	return dst, nil
}

// littleEndian says that numbers are in memory as they are in tensors.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1
