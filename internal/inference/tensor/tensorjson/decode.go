// Package tensorjson reads and writes tensor data in the Open Inference
// Protocol's JSON form: a flat or nested array in, a flat array out, straight
// from and to the binary form that package tensor holds.
//
// It is strict about the JSON grammar with one liberty that Triton and its
// clients take as well: the number tokens NaN, Infinity and -Infinity.
package tensorjson

import (
	"encoding/binary"
	"math"
	"slices"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Decode appends the binary form of the array that src starts with to dst. The
// array is flat, or nested exactly as the shape says; it returns the grown dst
// and the bytes of src that it read. On an error dst is returned as it was.
func Decode(dst []byte, d tensor.Datatype, shape tensor.Shape, src []byte) (out []byte, n int, err error) {
	if int(d) >= len(ranges) || ranges[d] == "" {
		return dst, 0, unsupported(d)
	}
	count, err := shape.Elements()
	if err != nil {
		return dst, 0, err
	}
	if count > int64(len(src)) && len(src) > 0 {
		return dst, 0, fault.New(fault.Invalid, "shape %s needs %d elements, but the data has fewer", shape, count)
	}
	// An element takes at least two bytes of text, with its comma or bracket: a
	// shape that promises more must not make room for them.
	room := int(min(count, int64(len(src)+1)/2)) * elementSize(d)
	a := array{src: src, out: slices.Grow(dst, room), shape: shape}
	if err := a.read(d, count); err != nil {
		return dst, 0, err
	}
	return a.out, a.pos, nil
}

// elementSize returns the fewest bytes that an element takes.
func elementSize(d tensor.Datatype) int {
	if d == tensor.Bytes {
		return 4
	}
	return d.Size()
}

func unsupported(d tensor.Datatype) error {
	return fault.New(fault.Invalid, "sending %s data via JSON is not supported. Please use the binary data format", d)
}

// array is an array on its way from text to binary.
type array struct {
	src   []byte
	pos   int
	out   []byte
	shape tensor.Shape
	index int64 // of the next element
}

// read reads the whole array; its first inner byte tells flat from nested.
func (a *array) read(d tensor.Datatype, count int64) error {
	if !a.at('[') {
		return unexpected(a.src, a.pos, " of the data", "an array")
	}
	first := skipSpace(a.src, a.pos+1)
	if first < len(a.src) && a.src[first] == '[' {
		return a.nested(d, a.shape)
	}
	return a.flat(d, count)
}

// nested reads an array whose shape must be exactly the given one.
func (a *array) nested(d tensor.Datatype, shape tensor.Shape) error {
	if len(shape) == 0 {
		return a.tooDeep()
	}
	if !a.at('[') {
		return fault.New(fault.Invalid, "at byte %d of the data: expected an array of %d: the data is nested, but not as its shape %s", a.pos, shape[0], a.shape)
	}
	if len(shape) == 1 {
		return a.flat(d, shape[0])
	}
	a.pos++
	for i := range shape[0] {
		if i > 0 && !a.take(',') {
			return a.short(shape[0], i)
		}
		if err := a.nested(d, shape[1:]); err != nil {
			return err
		}
	}
	return a.finish(shape[0])
}

// flat reads an array of count elements.
func (a *array) flat(d tensor.Datatype, count int64) error {
	a.pos++
	switch d {
	case tensor.FP32:
		return a.floats(d, &float32Format, count)
	case tensor.FP64:
		return a.floats(d, &float64Format, count)
	}
	for i := range count {
		if i > 0 && !a.take(',') {
			return a.short(count, i)
		}
		a.pos = skipSpace(a.src, a.pos)
		if err := a.element(d); err != nil {
			return err
		}
		a.index++
	}
	return a.finish(count)
}

// element reads one element that is not a float.
func (a *array) element(d tensor.Datatype) error {
	switch d {
	case tensor.Bool:
		return a.bool()
	case tensor.Bytes:
		return a.text()
	}
	return a.integer(d)
}

// floats is the loop of flat for floats, with the common case inlined.
func (a *array) floats(d tensor.Datatype, f *format, count int64) error {
	src := a.src
	for i := range count {
		if i > 0 && !a.take(',') {
			return a.short(count, i)
		}
		a.pos = skipSpace(src, a.pos)
		x, end, ok := scanDecimal(src, a.pos)
		v, sure := x.bits(f)
		if !ok || !sure {
			var finite bool
			if v, end, ok, finite = parseFloat(src, a.pos, f); !ok || !finite {
				return a.bad(end, ok, d)
			}
		}
		a.pos = end
		if f.bits == 32 {
			a.out = binary.LittleEndian.AppendUint32(a.out, uint32(v))
		} else {
			a.out = binary.LittleEndian.AppendUint64(a.out, v)
		}
		a.index++
	}
	return a.finish(count)
}

// integer reads an integer element and checks its range.
func (a *array) integer(d tensor.Datatype) error {
	v, neg, end, ok := scanInteger(a.src, a.pos)
	if !ok {
		number, isNumber := skipNumber(a.src, a.pos)
		return a.bad(number, isNumber, d)
	}
	signed := d >= tensor.Int8 && d <= tensor.Int64
	limit := uint64(math.MaxUint64) >> (64 - 8*d.Size())
	if signed {
		limit >>= 1
		if neg {
			limit++
		}
	} else if neg {
		limit = 0
	}
	if v > limit {
		return a.bad(end, true, d)
	}
	if neg {
		v = -v
	}
	for range d.Size() {
		a.out = append(a.out, byte(v))
		v >>= 8
	}
	a.pos = end
	return nil
}

// bool reads true, false, 1 or 0.
func (a *array) bool() error {
	rest := a.src[a.pos:]
	switch {
	case len(rest) >= 4 && string(rest[:4]) == "true":
		a.out = append(a.out, 1)
		a.pos += 4
		return nil
	case len(rest) >= 5 && string(rest[:5]) == "false":
		a.out = append(a.out, 0)
		a.pos += 5
		return nil
	}
	v, neg, end, ok := scanInteger(a.src, a.pos)
	if !ok || neg || v > 1 {
		number, isNumber := skipNumber(a.src, a.pos)
		return a.bad(number, isNumber, tensor.Bool)
	}
	a.out = append(a.out, byte(v))
	a.pos = end
	return nil
}

// text reads a string as a length-prefixed BYTES element.
func (a *array) text() error {
	if a.pos >= len(a.src) || a.src[a.pos] != '"' {
		return a.bad(a.pos, false, tensor.Bytes)
	}
	end, plain, err := scanString(a.src, a.pos)
	if err != nil {
		return fault.Wrap(fault.Invalid, nil, "data[%d]: %s", a.index, err)
	}
	text := a.src[a.pos+1 : end-1]
	a.pos = end
	if plain {
		a.out = tensor.AppendBytes(a.out, text)
		return nil
	}
	start := len(a.out)
	a.out = appendUnescaped(append(a.out, 0, 0, 0, 0), text)
	binary.LittleEndian.PutUint32(a.out[start:], uint32(len(a.out)-start-4))
	return nil
}

// finish consumes the closing bracket of an array of count.
func (a *array) finish(count int64) error {
	if a.take(']') {
		return nil
	}
	if a.at(',') || count == 0 && a.pos < len(a.src) {
		return fault.New(fault.Invalid, "at byte %d of the data: more than the %d values that shape %s calls for here", a.pos, count, a.shape)
	}
	return unexpected(a.src, a.pos, " of the data", "',' or ']'")
}

// short is the error for an array of count that does not go on after i values.
func (a *array) short(count, i int64) error {
	if a.at(']') {
		return fault.New(fault.Invalid, "at byte %d of the data: got %d values where shape %s calls for %d", a.pos, i, a.shape, count)
	}
	return unexpected(a.src, a.pos, " of the data", "',' or ']'")
}

func (a *array) tooDeep() error {
	return fault.New(fault.Invalid, "at byte %d of the data: the data is nested deeper than its shape %s", a.pos, a.shape)
}

// bad is the error for the element at pos: a number of the wrong kind or
// range up to end, or with isNumber false something else.
func (a *array) bad(end int, isNumber bool, d tensor.Datatype) error {
	switch {
	case isNumber:
		return fault.New(fault.Invalid, "data[%d]: %s is not %s", a.index, quote(a.src[a.pos:end]), ranges[d])
	case a.at('['):
		return a.tooDeep()
	case a.at(']'):
		return fault.New(fault.Invalid, "at byte %d of the data: got %d values where shape %s calls for more", a.pos, a.index, a.shape)
	}
	return fault.Wrap(fault.Invalid, nil, "data[%d]: %s", a.index, unexpected(a.src, max(end, a.pos), " of the data", ranges[d]))
}

// ranges says what the elements of each type are; FP16 and BF16 have no JSON form.
var ranges = [...]string{
	tensor.Bool:  "true or false",
	tensor.Uint8: "an integer from 0 to 255", tensor.Uint16: "an integer from 0 to 65535",
	tensor.Uint32: "an integer from 0 to 4294967295", tensor.Uint64: "an integer from 0 to 18446744073709551615",
	tensor.Int8: "an integer from -128 to 127", tensor.Int16: "an integer from -32768 to 32767",
	tensor.Int32: "an integer from -2147483648 to 2147483647",
	tensor.Int64: "an integer from -9223372036854775808 to 9223372036854775807",
	tensor.FP32:  "a number that fits FP32", tensor.FP64: "a number that fits FP64",
	tensor.Bytes: "a string",
}

// at skips white space and reports whether c follows.
func (a *array) at(c byte) bool {
	if a.pos < len(a.src) && a.src[a.pos] == c { // the common case
		return true
	}
	a.pos = skipSpace(a.src, a.pos)
	return a.pos < len(a.src) && a.src[a.pos] == c
}

// take is at, and consumes the c.
func (a *array) take(c byte) bool {
	if !a.at(c) {
		return false
	}
	a.pos++
	return true
}
