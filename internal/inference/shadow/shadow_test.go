package shadow

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

var config = Config{Top: 3, MaxElements: 1000}

func report(t testing.TB) *Report {
	t.Helper()
	r, err := NewReport(config)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func floats(name string, shape tensor.Shape, values ...float32) tensor.Tensor {
	out := tensor.Tensor{Name: name, Datatype: tensor.FP32, Shape: shape}
	for _, v := range values {
		out.Data = binary.LittleEndian.AppendUint32(out.Data, math.Float32bits(v))
	}
	return out
}

func compared(a, b tensor.Tensor) *Output {
	r, _ := NewReport(config)
	r.Compare([]tensor.Tensor{a}, []tensor.Tensor{b}, 1)
	return r.Outputs[a.Name]
}

func TestRowsAndDistances(t *testing.T) {
	a := floats("y", tensor.Shape{3, 4}, 1, 2, 3, 4 /**/, 5, 5, 0, 1 /**/, 0, 0, 0, 0)
	b := floats("y", tensor.Shape{3, 4}, 1, 2, 4.5, 4 /**/, 5, 5, 0, 2 /**/, 0, 0, 0, 0)
	o := compared(a, b)
	if o.Rows != 3 || o.Flips != 1 || o.TopSum != 9 || o.Kept != 9 || o.Elements != 12 || o.Differ != 2 || o.Max != 1.5 || o.Sum != 2.5 {
		t.Errorf("got %+v", o)
	}
	if o.FlipRate() != 1.0/3 || o.Overlap() != 1 || o.Mean() != 2.5/12 {
		t.Errorf("flips %g, overlap %g, mean %g", o.FlipRate(), o.Overlap(), o.Mean())
	}
	// Of equal elements the first is greater: the third row has kept 0, 1, 2. With a
	// last element that is greater it has lost 2.
	b.Data[11*4+3] = 0x3f
	if o := compared(a, b); o.Flips != 2 || o.Kept != 8 {
		t.Errorf("got %+v", o)
	}
}

func TestSpecialNumbers(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	payload := math.Float32frombits(0xffc00123)
	a := floats("y", tensor.Shape{8}, nan, inf, 0, nan, inf, inf, 1, 3)
	b := floats("y", tensor.Shape{8}, payload, inf, float32(math.Copysign(0, -1)), 1, -inf, math.MaxFloat32, math.Nextafter32(1, 2), 3)
	o := compared(a, b)
	if o.Differ != 4 || o.Unlike != 3 || o.MaxULP != 1 || o.ULPs[0] != 4 || o.ULPs[1] != 1 || o.Max != math.Ldexp(1, -23) || o.Rows != 0 {
		t.Errorf("got %+v", o)
	}
	// NaN is never the greatest, unless there is nothing else.
	if o := compared(floats("y", tensor.Shape{1, 2}, nan, -inf), floats("y", tensor.Shape{1, 2}, -inf, nan)); o.Flips != 1 || o.Unlike != 2 {
		t.Errorf("got %+v", o)
	}
	huge := tensor.Tensor{Name: "y", Datatype: tensor.FP64, Shape: tensor.Shape{1}, Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.MaxFloat64))}
	tiny := huge
	tiny.Data = binary.LittleEndian.AppendUint64(nil, math.Float64bits(-math.MaxFloat64))
	o = compared(huge, tiny)
	if _, err := json.Marshal(o); err != nil || o.Max != math.MaxFloat64 || o.MaxULP != 2*0x7fefffffffffffff {
		t.Errorf("%v: %+v", err, o)
	}
}

func TestIncomparable(t *testing.T) {
	y := floats("y", tensor.Shape{2}, 1, 2)
	short, turned, whole := y, y, y
	short.Data = y.Data[:4]
	turned.Shape = tensor.Shape{2, 1}
	whole.Datatype = tensor.Int32
	for name, b := range map[string][]tensor.Tensor{"broken": {short}, "other shape": {turned}, "other datatype": {whole}, "missing": nil} {
		r := report(t)
		r.Compare([]tensor.Tensor{y}, b, 1)
		if o := r.Outputs["y"]; o.Tensors != 1 || o.Incomparable != 1 || o.Elements != 0 || !math.IsNaN(o.Mean()) || !math.IsNaN(o.FlipRate()) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	r := report(t)
	r.Compare(nil, []tensor.Tensor{y}, 1)
	if o := r.Outputs["y"]; o.Incomparable != 1 {
		t.Errorf("one too many: %+v", o)
	}
}

func TestBounds(t *testing.T) {
	const rows = 400
	big := floats("y", tensor.Shape{rows, 3}, make([]float32, 3*rows)...)
	if o := compared(big, big); o.Elements != 999 || o.Skipped != 201 || o.Rows != 333 {
		t.Errorf("got %+v", o)
	}
	r := report(t)
	for i := range MaxOutputs + 5 {
		y := floats(string(rune('A'+i)), tensor.Shape{1}, 1)
		r.Compare([]tensor.Tensor{y}, []tensor.Tensor{y}, 1)
	}
	if len(r.Outputs) != MaxOutputs || r.Unnamed != 5 {
		t.Errorf("%d outputs, %d unnamed", len(r.Outputs), r.Unnamed)
	}
	for _, c := range []Config{{}, {Top: MaxTop + 1, MaxElements: 1}, {Top: 1}} {
		if _, err := NewReport(c); !fault.Is(err, fault.Unprocessable) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	other := &Report{Config: Config{Top: 1, MaxElements: 1}}
	if err := r.Merge(other); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

// drawTensor draws a small tensor of any datatype, of bytes that mean anything.
func drawTensor(t *rapid.T, d tensor.Datatype, shape tensor.Shape) tensor.Tensor {
	out := tensor.Tensor{Name: "y", Datatype: d, Shape: shape}
	n, err := shape.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if d == tensor.Bytes {
			out.Data = tensor.AppendBytes(out.Data, rapid.SampledFrom([]string{"", "a", "b", "long text"}).Draw(t, "text"))
			continue
		}
		pattern := rapid.SampledFrom([][]byte{{0, 0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0x80, 0, 0, 0, 0x80}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nil}).Draw(t, "pattern")
		if pattern == nil {
			pattern = rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "bytes")
		}
		out.Data = append(out.Data, pattern[8-d.Size():]...)
	}
	return out
}

// For all datatypes: keys order the values, distances are those of arithmetic of
// any precision, and comparing is symmetric.
func TestNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]tensor.Datatype{tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Int8, tensor.Int16,
			tensor.Int32, tensor.Int64, tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64}).Draw(t, "datatype")
		a, b := drawTensor(t, d, tensor.Shape{1}), drawTensor(t, d, tensor.Shape{1})
		x, y := readers[d](a.Data, 0), readers[d](b.Data, 0)
		if isFloat(d) && !math.IsNaN(x.value) && !math.IsNaN(y.value) && (x.value < y.value) != (x.key < y.key) {
			t.Fatalf("%g and %g have the keys %d and %d", x.value, y.value, x.key, y.key)
		}
		o, p := compared(a, b), compared(b, a)
		if *o != *p {
			t.Fatalf("%+v one way, %+v the other", o, p)
		}
		if !isFloat(d) {
			p, q := whole(d, a.Data), whole(d, b.Data)
			want := new(big.Int).Abs(p.Sub(p, q))
			if new(big.Int).SetUint64(o.MaxULP).Cmp(want) != 0 || o.Unlike != 0 {
				t.Fatalf("%v and %v of %s are %d apart, want %s", a.Data, b.Data, d, o.MaxULP, want)
			}
		} else if o.Differ > o.Unlike && o.Max != min(math.Abs(x.value-y.value), math.MaxFloat64) {
			t.Fatalf("%g and %g are %g apart", x.value, y.value, o.Max)
		}
	})
}

// whole is an integer element.
func whole(d tensor.Datatype, data []byte) *big.Int {
	be := slices.Clone(data)
	slices.Reverse(be)
	x := new(big.Int).SetBytes(be)
	switch d {
	case tensor.Bool:
		x.SetInt64(min(x.Int64(), 1))
	case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64:
		if be[0]&0x80 != 0 {
			x.Sub(x, new(big.Int).Lsh(big.NewInt(1), uint(8*len(be))))
		}
	}
	return x
}

// Neighbours of each small float are one apart.
func TestNeighboursAreOneApart(t *testing.T) {
	for d, infinite := range map[tensor.Datatype]uint16{tensor.FP16: 0x7c00, tensor.BF16: 0x7f80} {
		key := func(x uint16) uint64 { return readers[d](binary.LittleEndian.AppendUint16(nil, x), 0).key }
		for x := uint16(1); x <= infinite; x++ {
			if key(x)-key(x-1) != 1 || key(0x8000|(x-1))-key(0x8000|x) != 1 {
				t.Fatalf("%s: %#x has the key %d after %d", d, x, key(x), key(x-1))
			}
		}
	}
}

// Reports of parts merge to that of the whole, in any order, whatever the
// datatype; sums of distances but for rounding.
func TestReportsMerge(t *testing.T) {
	type pair struct{ a, b tensor.Tensor }
	pairs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pair {
		d := tensor.Datatype(rapid.IntRange(int(tensor.Bool), int(tensor.Bytes)).Draw(t, "datatype"))
		shape := tensor.Shape(rapid.SliceOfN(rapid.Int64Range(0, 4), 0, 3).Draw(t, "shape"))
		return pair{drawTensor(t, d, shape), drawTensor(t, d, shape)}
	}), 0, 6)
	rapid.Check(t, func(t *rapid.T) {
		x, y := pairs.Draw(t, "x"), pairs.Draw(t, "y")
		of := func(lists ...[]pair) *Report {
			r, _ := NewReport(config)
			for _, p := range slices.Concat(lists...) {
				r.Compare([]tensor.Tensor{p.a}, []tensor.Tensor{p.b}, 1)
			}
			return r
		}
		one, other, want := of(x), of(y), of(x, y)
		if err := one.Merge(of(y)); err != nil {
			t.Fatal(err)
		}
		if err := other.Merge(of(x)); err != nil {
			t.Fatal(err)
		}
		for _, got := range []*Report{one, other} {
			if got.Answers != want.Answers || len(got.Outputs) != len(want.Outputs) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
			for name, o := range got.Outputs {
				w := *want.Outputs[name]
				if math.Abs(o.Sum-w.Sum) > 1e-9*w.Sum {
					t.Fatalf("%s: the sum is %g, want %g", name, o.Sum, w.Sum)
				}
				if w.Sum = o.Sum; *o != w {
					t.Fatalf("%s: got %+v, want %+v", name, *o, w)
				}
				if o.ULPs[0]+o.Differ != o.Elements || o.Flips > o.Rows || o.Kept > o.TopSum || o.Unlike > o.Differ {
					t.Fatalf("%s does not add up: %+v", name, *o)
				}
			}
		}
		var back Report
		data, err := json.Marshal(want)
		if err != nil || json.Unmarshal(data, &back) != nil || back.Answers != want.Answers {
			t.Fatalf("%v: %s", err, data)
		}
	})
}

// The greatest elements are those that sorting finds.
func TestTop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.ByteRange(0, 20), 1, 60).Draw(t, "values")
		k := rapid.IntRange(1, MaxTop).Draw(t, "k")
		order := make([]int64, len(values))
		for i := range order {
			order[i] = int64(i)
		}
		slices.SortStableFunc(order, func(i, j int64) int { return int(values[j]) - int(values[i]) })
		var got top
		got.of(values, readers[tensor.Uint8], int64(len(values)), k)
		if !slices.Equal(got.index[:got.n], order[:min(k, len(order))]) {
			t.Fatalf("the %d greatest of %v are %v, want %v", k, values, got.index[:got.n], order)
		}
	})
}

func TestCompareDoesNotAllocate(t *testing.T) {
	r, y := report(t), []tensor.Tensor{floats("y", tensor.Shape{10, 10}, make([]float32, 100)...)}
	r.Compare(y, y, 10)
	if n := testing.AllocsPerRun(100, func() { r.Compare(y, y, 10) }); n != 0 {
		t.Errorf("Compare allocates %.0f times", n)
	}
}

func BenchmarkCompare(b *testing.B) {
	r, _ := NewReport(Config{Top: 5, MaxElements: 1 << 20})
	values := make([]float32, 64*1000)
	for i := range values {
		values[i] = float32(i*7919%1000) / 1000
	}
	y, z := floats("y", tensor.Shape{64, 1000}, values...), floats("y", tensor.Shape{64, 1000}, values...)
	for row := range 64 {
		z.Data[row*4000] ^= 1
	}
	b.SetBytes(int64(len(y.Data)))
	b.ReportAllocs()
	for b.Loop() {
		r.Compare([]tensor.Tensor{y}, []tensor.Tensor{z}, 64)
	}
}
