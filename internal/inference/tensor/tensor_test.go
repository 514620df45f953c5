package tensor

import (
	"bytes"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestDatatypeNamesRoundTrip(t *testing.T) {
	for d := Bool; d <= Bytes; d++ {
		got, err := Parse(d.String())
		if err != nil || got != d {
			t.Errorf("Parse(%q) = %v, %v", d.String(), got, err)
		}
	}
	for _, name := range []string{"", "fp32", "FP32 ", "INVALID", "STRING", "INT128"} {
		if d, err := Parse(name); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", name, d)
		}
	}
	if s := Datatype(200); s.String() != "INVALID" || s.Size() != 0 {
		t.Errorf("an unknown datatype is %q of %d bytes", s, s.Size())
	}
}

// Elements agrees with arithmetic of any precision, and a zero never hides an
// overflow of the other extents.
func TestElementsNeverOverflows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		extent := rapid.OneOf(rapid.Int64Range(-2, 70), rapid.Int64Range(0, math.MaxInt64), rapid.SampledFrom([]int64{0, 1, 1 << 31, 1 << 32, math.MaxInt64}))
		shape := Shape(rapid.SliceOfN(extent, 0, MaxDims+2).Draw(t, "shape"))
		product, nonzero, negative := big.NewInt(1), big.NewInt(1), false
		for _, d := range shape {
			negative = negative || d < 0
			product.Mul(product, big.NewInt(d))
			if d != 0 {
				nonzero.Mul(nonzero, big.NewInt(d))
			}
		}
		n, err := shape.Elements()
		if wantErr := negative || len(shape) > MaxDims || !nonzero.IsInt64(); wantErr != (err != nil) {
			t.Fatalf("Elements(%v) = %d, %v; want an error: %t", shape, n, err, wantErr)
		}
		if err == nil && n != product.Int64() {
			t.Fatalf("Elements(%v) = %d, want %s", shape, n, product)
		}
	})
}

func TestByteSizeNeverOverflows(t *testing.T) {
	if _, err := ByteSize(FP64, Shape{math.MaxInt64 / 4}); err == nil {
		t.Error("a size of 2^64 bytes was accepted")
	}
	if n, err := ByteSize(FP64, Shape{3, 0}); n != 0 || err != nil {
		t.Errorf("ByteSize of an empty shape = %d, %v", n, err)
	}
	if _, err := ByteSize(Bytes, Shape{1}); err == nil {
		t.Error("BYTES has no size of its own, yet one was given")
	}
}

func TestBytesElementsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "elements")
		var data []byte
		for _, e := range want {
			data = AppendBytes(data, e)
		}
		tensor := Tensor{Datatype: Bytes, Shape: Shape{int64(len(want))}, Data: data}
		if err := tensor.Validate(); err != nil {
			t.Fatal(err)
		}
		i := 0
		for e := range Elements(data) {
			if !bytes.Equal(e, want[i]) {
				t.Fatalf("element %d is %q, want %q", i, e, want[i])
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("%d elements came back of %d", i, len(want))
		}
		tensor.Shape[0]++
		if tensor.Validate() == nil {
			t.Fatal("a shape with one element too many was accepted")
		}
	})
}

// Any cut and any lying length is an error or another valid reading, never a
// view beyond the data.
func FuzzCountBytes(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendBytes(AppendBytes(nil, "a"), ""))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{3, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := CountBytes(data)
		if err != nil {
			return
		}
		total, seen := 0, int64(0)
		for e := range Elements(data) {
			total += 4 + len(e)
			seen++
		}
		if seen != n || total != len(data) {
			t.Fatalf("%d elements of %d bytes were counted in %d bytes, %d were read", n, total, len(data), seen)
		}
	})
}

func TestValidateNamesTheMismatch(t *testing.T) {
	short := Tensor{Datatype: FP32, Shape: Shape{2, 2}, Data: make([]byte, 15)}
	if err := short.Validate(); err == nil || err.Error() != "shape [2,2] of FP32 needs 16 bytes, got 15" {
		t.Errorf("got %v", err)
	}
}

func TestSlabsServeTheirSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(0, 5000), rapid.IntRange(0, 1<<27)).Draw(t, "n")
		s := GetSlab(n)
		if len(s.B) != 0 || cap(s.B) < n {
			t.Fatalf("asked for %d bytes, got length %d and capacity %d", n, len(s.B), cap(s.B))
		}
		s.B = append(s.B[:n], rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "grown")...)
		s.Release()
	})
	(*Slab)(nil).Release()
}

func BenchmarkSlab(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		GetSlab(3000).Release()
	}
}
