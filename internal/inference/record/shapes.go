package record

import (
	"encoding/base64"
	"encoding/binary"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/tensor"
)

// Shapes are sketches of how the numbers of logged tensors are distributed, by arm and by
// name: in/NAME or out/NAME, and /COLUMN behind it for tensors of a few columns.
type Shapes map[string]map[string]*drift.Sketch

// Add counts a sketch.
func (s Shapes) Add(arm, name string, o *drift.Sketch) {
	if s[arm] == nil {
		s[arm] = map[string]*drift.Sketch{}
	}
	if s[arm][name] == nil {
		s[arm][name] = new(drift.Sketch)
	}
	s[arm][name].Merge(o)
}

// Bounds of what is counted of one prediction.
const (
	maxShapes        = 64
	maxShapeColumns  = 32   // a tensor of more counts as one
	maxShapeElements = 4096 // of each tensor
)

// ShapeOf is the key of a sketch.
type ShapeOf struct {
	Series
	Minute time.Time
	Name   string
}

// CountShapes counts the numbers of an entry's content.
func CountShapes(sums map[ShapeOf]*drift.Sketch, e *Entry) {
	if len(e.Content) == 0 {
		return
	}
	of, counted := ShapeOf{Series: e.Series(), Minute: e.At.Truncate(Resolution)}, 0
	for side, t := range Tensors(e.Content) {
		read := number(t.Datatype)
		if read == nil || side == Feature {
			continue
		}
		prefix, size, width := map[Side]string{Input: "in/", Output: "out/"}[side]+t.Name, t.Datatype.Size(), columns(&t)
		several := width > 1 && width <= maxShapeColumns
		if !several {
			width = 1
		}
		if counted += width; counted > maxShapes {
			return
		}
		into := make([]*drift.Sketch, width)
		for c := range into {
			if of.Name = prefix; several {
				of.Name += "/" + strconv.Itoa(c)
			}
			if sums[of] == nil {
				sums[of] = new(drift.Sketch)
			}
			into[c] = sums[of]
		}
		for i := range min(len(t.Data)/size, maxShapeElements) {
			into[i%width].Add(read(t.Data[i*size:]))
		}
		if len(t.Data) == 0 {
			continue
		}
		for _, s := range into {
			s.End()
		}
	}
}

// IsOutput says whether a shape is of an output.
func IsOutput(name string) bool { return strings.HasPrefix(name, "out/") }

// number returns a function that reads an element of a type as a number; nil for texts.
func number(d tensor.Datatype) func(b []byte) float64 {
	le := binary.LittleEndian
	switch d {
	case tensor.Bool, tensor.Uint8:
		return func(b []byte) float64 { return float64(b[0]) }
	case tensor.Int8:
		return func(b []byte) float64 { return float64(int8(b[0])) }
	case tensor.Uint16:
		return func(b []byte) float64 { return float64(le.Uint16(b)) }
	case tensor.Int16:
		return func(b []byte) float64 { return float64(int16(le.Uint16(b))) }
	case tensor.Uint32:
		return func(b []byte) float64 { return float64(le.Uint32(b)) }
	case tensor.Int32:
		return func(b []byte) float64 { return float64(int32(le.Uint32(b))) }
	case tensor.Uint64:
		return func(b []byte) float64 { return float64(le.Uint64(b)) }
	case tensor.Int64:
		return func(b []byte) float64 { return float64(int64(le.Uint64(b))) }
	case tensor.FP16:
		return func(b []byte) float64 { return tensor.Half(le.Uint16(b)) }
	case tensor.BF16:
		return func(b []byte) float64 { return tensor.Brain(le.Uint16(b)) }
	case tensor.FP32:
		return func(b []byte) float64 { return float64(math.Float32frombits(le.Uint32(b))) }
	case tensor.FP64:
		return func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) }
	}
	return nil
}

// Values goes through the elements of a tensor: numbers, booleans or texts.
func Values(t *tensor.Tensor) iter.Seq[any] {
	return func(yield func(any) bool) {
		if t.Datatype == tensor.Bytes {
			for text := range tensor.Elements(t.Data) {
				if !yield(string(text)) {
					return
				}
			}
			return
		}
		read, size := number(t.Datatype), t.Datatype.Size()
		for i := 0; i+size <= len(t.Data) && size > 0; i += size {
			var v any
			switch b := t.Data[i:]; t.Datatype {
			case tensor.Bool:
				v = b[0] != 0
			case tensor.Uint64:
				v = binary.LittleEndian.Uint64(b)
			case tensor.Int64:
				v = int64(binary.LittleEndian.Uint64(b))
			default:
				v = read(b)
			}
			if !yield(v) {
				return
			}
		}
	}
}

// Plain returns at most the first elements of a tensor in a form that JSON can express:
// numbers that are not finite as texts, and texts that are not UTF-8 as base64:….
func Plain(t *tensor.Tensor, most int) []any {
	out := []any{}
	for v := range Values(t) {
		if len(out) == most {
			break
		}
		switch x := v.(type) {
		case float64:
			if math.IsNaN(x) || math.IsInf(x, 0) {
				v = strconv.FormatFloat(x, 'g', -1, 64)
			}
		case string:
			if !utf8.ValidString(x) {
				v = "base64:" + base64.StdEncoding.EncodeToString([]byte(x))
			}
		}
		out = append(out, v)
	}
	return out
}
