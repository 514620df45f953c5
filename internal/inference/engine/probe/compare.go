package probe

import (
	"encoding/binary"
	"fmt"
	"math"

	"sluice/internal/inference/tensor"
)

// compare returns how the outputs of a row, which it had in the circumstances
// named, differ from those in a batch, or "". Floating-point values may differ
// as much as another order of summation explains.
func compare(without, batched []tensor.Tensor, circumstances string) string {
	for o := range without {
		a, b := &without[o], &batched[o]
		if !a.Shape.Equal(b.Shape) || len(a.Data) != len(b.Data) {
			return fmt.Sprintf("output %q has shape %s %s and %s in the batch", a.Name, a.Shape, circumstances, b.Shape)
		}
		absolute, relative, read := tolerance(a.Datatype)
		if read == nil {
			if string(a.Data) != string(b.Data) {
				return fmt.Sprintf("output %q differs", a.Name)
			}
			continue
		}
		size := a.Datatype.Size()
		for at := 0; at < len(a.Data); at += size {
			x, y := read(a.Data[at:]), read(b.Data[at:])
			if x == y || math.IsNaN(x) && math.IsNaN(y) || !math.IsInf(x, 0) && math.Abs(x-y) <= absolute+relative*math.Abs(x) {
				continue
			}
			return fmt.Sprintf("output %q is %g %s and %g in the batch", a.Name, x, circumstances, y)
		}
	}
	return ""
}

// tolerance is tensor.Tolerance of the datatypes that are not compared byte by
// byte, with what reads their values.
func tolerance(d tensor.Datatype) (absolute, relative float64, read func([]byte) float64) {
	absolute, relative = tensor.Tolerance(d)
	switch d {
	case tensor.FP32:
		read = func(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) }
	case tensor.FP64:
		read = func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }
	case tensor.FP16:
		read = func(b []byte) float64 { return tensor.Half(binary.LittleEndian.Uint16(b)) }
	case tensor.BF16:
		read = func(b []byte) float64 { return tensor.Brain(binary.LittleEndian.Uint16(b)) }
	}
	return absolute, relative, read
}
