package transform_test

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/graph/transform"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// fresh gives memory that is full of what was there before, as slabs are.
func fresh(n int) ([]byte, error) { return slices.Repeat([]byte{0xa5}, n), nil }

func newOp(t testing.TB, s model.Transform) transform.Op {
	t.Helper()
	op, err := transform.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func port(t *tensor.Tensor) model.Port {
	return model.Port{Name: t.Name, Datatype: t.Datatype, Shape: t.Shape}
}

// apply runs a transform, and checks that it gives what it has said.
func apply(t *rapid.T, s model.Transform, in ...tensor.Tensor) (tensor.Tensor, error) {
	op, err := transform.New(&s)
	if err != nil {
		return tensor.Tensor{}, err
	}
	var ports []model.Port
	var before [][]byte
	for i := range in {
		ports, before = append(ports, port(&in[i])), append(before, slices.Clone(in[i].Data))
	}
	said, err := op.Port(ports, false)
	if err != nil {
		return tensor.Tensor{}, err
	}
	out, err := op.Apply(in, -1, fresh)
	for i := range in {
		if !slices.Equal(before[i], in[i].Data) {
			t.Fatalf("%s changed its input", s.Kind)
		}
	}
	if err == nil {
		if out.Datatype != said.Datatype || !out.Shape.Equal(said.Shape) {
			t.Fatalf("%s said %s %s and gave %s %s", s.Kind, said.Datatype, said.Shape, out.Datatype, out.Shape)
		}
		if err := out.Validate(); err != nil {
			t.Fatalf("%s gave %v", s.Kind, err)
		}
	}
	return out, err
}

func floats(shape tensor.Shape, values ...float64) tensor.Tensor {
	t := tensor.Tensor{Name: "x", Datatype: tensor.FP64, Shape: shape}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint64(t.Data, math.Float64bits(v))
	}
	return t
}

func values(t tensor.Tensor) []float64 {
	var vs []float64
	for i := range len(t.Data) / t.Datatype.Size() {
		vs = append(vs, transform.Float(t.Datatype, t.Data, i))
	}
	return vs
}

var anything = rapid.Custom(func(t *rapid.T) tensor.Tensor {
	shape := tensor.Shape(rapid.SliceOfN(rapid.Int64Range(0, 4), 1, 4).Draw(t, "shape"))
	n, _ := shape.Elements()
	if rapid.Bool().Draw(t, "text") {
		out := tensor.Tensor{Name: "x", Datatype: tensor.Bytes, Shape: shape}
		for range n {
			out.Data = tensor.AppendBytes(out.Data, rapid.StringN(0, 5, 9).Draw(t, "element"))
		}
		return out
	}
	return floats(shape, rapid.SliceOfN(rapid.Float64Range(-100, 100), int(n), int(n)).Draw(t, "values")...)
})

// Cutting a tensor anywhere and putting the parts together again gives the tensor.
func TestSliceAndConcatAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anything.Filter(func(x tensor.Tensor) bool { return slices.Max(x.Shape) > 1 }).Draw(t, "x")
		axis := rapid.IntRange(0, len(x.Shape)-1).Filter(func(axis int) bool { return x.Shape[axis] > 1 }).Draw(t, "axis")
		at := rapid.IntRange(1, int(x.Shape[axis])-1).Draw(t, "at")
		first, err := apply(t, model.Transform{Kind: model.Slice, Axis: axis, To: &at}, x)
		if err != nil {
			t.Fatal(err)
		}
		second, err := apply(t, model.Transform{Kind: model.Slice, Axis: axis - len(x.Shape), From: at}, x)
		if err != nil {
			t.Fatal(err)
		}
		again, err := apply(t, model.Transform{Kind: model.Concat, Axis: axis}, first, second)
		if err != nil || !again.Shape.Equal(x.Shape) || !slices.Equal(again.Data, x.Data) {
			t.Fatalf("%v, %v", again, err)
		}
	})
}

// Rows in any order and back again are the rows.
func TestRowsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anything.Draw(t, "x")
		order := rapid.Permutation(seq(int(x.Shape[0]))).Draw(t, "order")
		inverse := make([]int, len(order))
		for i, row := range order {
			inverse[row] = i
		}
		mixed, err := transform.Rows(&x, order, fresh)
		if err != nil || mixed.Validate() != nil {
			t.Fatalf("%v: %v", mixed, err)
		}
		if back, err := transform.Rows(&mixed, inverse, fresh); err != nil || !slices.Equal(back.Data, x.Data) {
			t.Fatalf("%v: %v", back, err)
		}
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// A softmax sums to one along its axis, keeps the order, and does not care for what
// is added to all; the argmax finds its greatest.
func TestSoftmaxAndArgmax(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, k := rapid.IntRange(1, 5).Draw(t, "rows"), rapid.IntRange(1, 6).Draw(t, "classes")
		scores := rapid.SliceOfN(rapid.Float64Range(-1e4, 1e4), n*k, n*k).Draw(t, "scores")
		shares, err := apply(t, model.Transform{Kind: model.Softmax, Axis: -1}, floats(tensor.Shape{int64(n), int64(k)}, scores...))
		if err != nil {
			t.Fatal(err)
		}
		best, err := apply(t, model.Transform{Kind: model.Argmax, Axis: 1}, floats(tensor.Shape{int64(n), int64(k)}, scores...))
		if err != nil {
			t.Fatal(err)
		}
		got := values(shares)
		for row := range n {
			sum := 0.0
			for i := range k {
				sum += got[row*k+i]
			}
			if math.Abs(sum-1) > 1e-9 {
				t.Fatalf("row %d sums to %v", row, sum)
			}
			if mine := scores[row*k : (row+1)*k]; int(values(best)[row]) != slices.Index(mine, slices.Max(mine)) {
				t.Fatalf("row %d of %v has its greatest at %v", row, mine, values(best)[row])
			}
		}
	})
}

// Argmax works along every axis, and for integers that no float tells apart.
func TestArgmaxAlongOtherAxes(t *testing.T) {
	x := floats(tensor.Shape{2, 3}, 1, 9, 3, 4, 5, math.NaN())
	op := newOp(t, model.Transform{Kind: model.Argmax, Axis: 0})
	if out, err := op.Apply([]tensor.Tensor{x}, -1, fresh); err != nil || !slices.Equal(values(out), []float64{1, 0, 1}) {
		t.Errorf("%v, %v", values(out), err)
	}
	big := tensor.Tensor{Datatype: tensor.Int64, Shape: tensor.Shape{2}}
	for _, v := range []int64{1<<62 + 1, 1<<62 + 2} {
		big.Data = binary.LittleEndian.AppendUint64(big.Data, uint64(v))
	}
	if out, err := op.Apply([]tensor.Tensor{big}, -1, fresh); err != nil || values(out)[0] != 1 {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := op.Apply([]tensor.Tensor{floats(tensor.Shape{0, 2})}, -1, fresh); !fault.Is(err, fault.Invalid) {
		t.Errorf("the greatest of nothing: %v", err)
	}
}

var numbers = []tensor.Datatype{
	tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64,
	tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64, tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64,
}

// Small integers survive every cast that can hold them, and come back the same.
func TestCastsKeepValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := float64(rapid.IntRange(0, 1).Draw(t, "v"))
		x := floats(tensor.Shape{1}, v)
		for range 5 {
			to := rapid.SampledFrom(numbers).Draw(t, "to")
			var err error
			if x, err = apply(t, model.Transform{Kind: model.Cast, Datatype: to}, x); err != nil || values(x)[0] != v {
				t.Fatalf("%v as %s: %v, %v", v, to, values(x), err)
			}
		}
	})
}

// Casts to integers are exact or refused; nothing wraps around.
func TestCastsNeverWrap(t *testing.T) {
	for _, c := range []struct {
		v    float64
		to   tensor.Datatype
		want float64
		ok   bool
	}{
		{127.9, tensor.Int8, 127, true}, {128, tensor.Int8, 0, false}, {-128, tensor.Int8, -128, true}, {-129, tensor.Int8, 0, false},
		{-0.9, tensor.Uint8, 0, true}, {-1, tensor.Uint8, 0, false}, {255, tensor.Uint8, 255, true}, {256, tensor.Uint8, 0, false},
		{1 << 63, tensor.Int64, 0, false}, {-(1 << 63), tensor.Int64, -(1 << 63), true}, {1 << 63, tensor.Uint64, 1 << 63, true},
		{math.NaN(), tensor.Int32, 0, false}, {math.Inf(1), tensor.Uint64, 0, false}, {math.NaN(), tensor.Bool, 1, true},
	} {
		op := newOp(t, model.Transform{Kind: model.Cast, Datatype: c.to})
		out, err := op.Apply([]tensor.Tensor{floats(tensor.Shape{1}, c.v)}, -1, fresh)
		if (err == nil) != c.ok || c.ok && values(out)[0] != c.want {
			t.Errorf("%v as %s: %v, %v", c.v, c.to, out.Data, err)
		}
	}
}

// Every half and every bfloat16 comes back from FP64 as it was, and what lies
// between two becomes the nearer one.
func TestSmallFloatsRoundTrip(t *testing.T) {
	for _, d := range []tensor.Datatype{tensor.FP16, tensor.BF16} {
		to := newOp(t, model.Transform{Kind: model.Cast, Datatype: d})
		last := math.Inf(-1)
		for bits := range 1 << 15 {
			data := binary.LittleEndian.AppendUint16(nil, uint16(bits))
			v := transform.Float(d, data, 0)
			if math.IsNaN(v) {
				continue
			}
			out, err := to.Apply([]tensor.Tensor{floats(tensor.Shape{1}, v)}, -1, fresh)
			if err != nil || !slices.Equal(out.Data, data) {
				t.Fatalf("%s %#x is %v, and came back %x: %v", d, bits, v, out.Data, err)
			}
			if !math.IsInf(last, 0) && !math.IsInf(v, 0) {
				for share, want := range map[float64]float64{0.49: last, 0.51: v} {
					out, _ := to.Apply([]tensor.Tensor{floats(tensor.Shape{1}, last+share*(v-last))}, -1, fresh)
					if values(out)[0] != want {
						t.Fatalf("%s: %v of the way from %v to %v became %v", d, share, last, v, values(out))
					}
				}
			}
			last = v
		}
	}
}

func TestThresholdAndConstant(t *testing.T) {
	at := newOp(t, model.Transform{Kind: model.Threshold, At: 0.5})
	if out, err := at.Apply([]tensor.Tensor{floats(tensor.Shape{3}, 0.5, 0.4, math.NaN())}, -1, fresh); err != nil || !slices.Equal(out.Data, []byte{1, 0, 0}) {
		t.Errorf("%v, %v", out.Data, err)
	}
	c := newOp(t, model.Transform{Kind: model.Constant, Datatype: tensor.Int8, Dims: tensor.Shape{2}, Values: []string{"-1", "7"}})
	if out, err := c.Apply(nil, 3, fresh); err != nil || !out.Shape.Equal(tensor.Shape{3, 2}) || !slices.Equal(out.Data, []byte{255, 7, 255, 7, 255, 7}) {
		t.Errorf("%v, %v", out, err)
	}
	if out, err := c.Apply(nil, 0, fresh); err != nil || out.Validate() != nil {
		t.Errorf("no rows: %v, %v", out, err)
	}
}

// What cannot work is refused before any data is there.
func TestRefusals(t *testing.T) {
	fp, text := model.Port{Datatype: tensor.FP32, Shape: tensor.Shape{-1, 3}}, model.Port{Datatype: tensor.Bytes, Shape: tensor.Shape{-1, 3}}
	four := 4
	for _, c := range []struct {
		s    model.Transform
		in   []model.Port
		want string
	}{
		{model.Transform{Kind: model.Softmax, Axis: 0}, []model.Port{fp}, "is the batch"},
		{model.Transform{Kind: model.Argmax, Axis: -2}, []model.Port{fp}, "is the batch"},
		{model.Transform{Kind: model.Argmax, Axis: 2}, []model.Port{fp}, "axis 2 is none of shape [-1,3]"},
		{model.Transform{Kind: model.Softmax, Axis: 1}, []model.Port{text}, "takes floating-point numbers, got BYTES"},
		{model.Transform{Kind: model.Threshold}, []model.Port{text}, "takes numbers, got BYTES"},
		{model.Transform{Kind: model.Cast, Datatype: tensor.FP32}, []model.Port{text}, "cannot make FP32 of BYTES"},
		{model.Transform{Kind: model.Slice, Axis: 1, To: &four}, []model.Port{fp}, "positions 0 to 4 are not all on axis 1"},
		{model.Transform{Kind: model.Slice, Axis: 1, From: 4}, []model.Port{fp}, "positions 4 to 3 are not all on axis 1"},
		{model.Transform{Kind: model.Concat, Axis: 1}, []model.Port{fp, text}, "cannot put BYTES behind FP32"},
		{model.Transform{Kind: model.Concat, Axis: 1}, []model.Port{fp}, "takes two tensors at least"},
		{model.Transform{Kind: model.Concat, Axis: 1}, []model.Port{fp, {Datatype: tensor.FP32, Shape: tensor.Shape{-1, 3, 1}}}, "differ elsewhere"},
		{model.Transform{Kind: model.Rename}, []model.Port{fp, fp}, "takes one tensor, got 2"},
	} {
		if _, err := newOp(t, c.s).Port(c.in, true); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.s, err, c.want)
		}
	}
	for _, s := range []model.Transform{
		{Kind: model.Constant, Datatype: tensor.Int8, Dims: tensor.Shape{1}, Values: []string{"128"}},
		{Kind: model.Constant, Datatype: tensor.FP16, Dims: tensor.Shape{1}, Values: []string{"70000"}},
		{Kind: model.Constant, Datatype: tensor.Bool, Dims: tensor.Shape{1}, Values: []string{"yes"}},
		{Kind: model.Constant, Datatype: tensor.Uint64, Dims: tensor.Shape{1}, Values: []string{"18446744073709551616"}},
		{Kind: model.Constant, Datatype: tensor.Int8, Dims: tensor.Shape{3}, Values: []string{"1", "2"}},
		{Kind: model.Constant, Datatype: tensor.Bytes, Dims: tensor.Shape{model.MaxConstant}, Values: []string{strings.Repeat("x", 1000)}},
		{Kind: model.Constant, Datatype: tensor.Int8, Dims: tensor.Shape{1 << 20, 1 << 20}, Values: []string{"1"}},
	} {
		if _, err := transform.New(&s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// An extent that is known only later is checked then.
func TestSlicesBeyondTheData(t *testing.T) {
	four := 4
	op := newOp(t, model.Transform{Kind: model.Slice, Axis: 1, To: &four})
	if _, err := op.Port([]model.Port{{Datatype: tensor.FP64, Shape: tensor.Shape{-1, -1}}}, true); err != nil {
		t.Fatal(err)
	}
	if _, err := op.Apply([]tensor.Tensor{floats(tensor.Shape{1, 3}, 1, 2, 3)}, 1, fresh); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

func texts(words ...string) tensor.Tensor {
	t := tensor.Tensor{Datatype: tensor.Bytes, Shape: tensor.Shape{int64(len(words))}}
	for _, w := range words {
		t.Data = tensor.AppendBytes(t.Data, w)
	}
	return t
}

func TestCombine(t *testing.T) {
	out, err := transform.Combine(t.Context(), model.Mean, []tensor.Tensor{floats(tensor.Shape{2}, 0, 3), floats(tensor.Shape{2}, 3, 0)}, []float64{2, 1}, fresh)
	if err != nil || !slices.Equal(values(out), []float64{1, 2}) {
		t.Errorf("mean: %v, %v", values(out), err)
	}
	votes := []tensor.Tensor{texts("a", "x", "longer"), texts("b", "y", "b"), texts("b", "z", "longer")}
	out, err = transform.Combine(t.Context(), model.Vote, votes, []float64{1, 1, 1}, fresh)
	if want := texts("b", "x", "longer"); err != nil || !slices.Equal(out.Data, want.Data) {
		t.Errorf("vote: %q, %v", out.Data, err)
	}
	out, err = transform.Combine(t.Context(), model.Vote, votes, []float64{3, 1, 1}, fresh)
	if want := texts("a", "x", "longer"); err != nil || !slices.Equal(out.Data, want.Data) {
		t.Errorf("weighted: %q, %v", out.Data, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for how, in := range map[string][]tensor.Tensor{model.Vote: votes, model.Mean: {floats(tensor.Shape{2}, 0, 3)}} {
		if _, err := transform.Combine(gone, how, in, []float64{1, 1, 1}, fresh); !fault.Is(err, fault.Canceled) {
			t.Errorf("%s for a client that has gone: %v", how, err)
		}
	}
	if _, err := transform.Combine(t.Context(), model.Mean, []tensor.Tensor{floats(tensor.Shape{2}, 0, 3), floats(tensor.Shape{1}, 3)}, []float64{2, 1}, fresh); !fault.Is(err, fault.Invalid) {
		t.Errorf("shapes that differ: %v", err)
	}
	if transform.Combinable(model.Mean, tensor.Int64) == nil || transform.Combinable(model.Vote, tensor.FP32) == nil {
		t.Error("the mean of classes and the vote of numbers are not refused")
	}
}
