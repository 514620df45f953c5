package oip

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

func fp32(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func classes(t *testing.T, scores tensor.Tensor, port model.Port, k int, batched bool) (tensor.Shape, []string) {
	t.Helper()
	account := budget.New(1<<30, "memory").Account()
	out, slab, err := Classify(&account, &scores, &port, k, batched)
	if err != nil {
		t.Fatal(err)
	}
	defer slab.Release()
	if err := out.Validate(); err != nil || out.Datatype != tensor.Bytes || out.Name != scores.Name {
		t.Fatalf("result %s %s: %v", out.Name, out.Datatype, err)
	}
	list := []string{}
	for e := range tensor.Elements(out.Data) {
		list = append(list, string(e))
	}
	return out.Shape, list
}

func TestClassify(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, tt := range map[string]struct {
		scores  tensor.Tensor
		labels  []string
		k       int
		batched bool
		shape   tensor.Shape
		want    []string
	}{
		"rows of a batch": {
			tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{2, 3}, Data: fp32(0.1, 0.7, 0.2, 3, 2, 1)}, []string{"a", "b", "c"}, 2, true,
			tensor.Shape{2, 2}, []string{"0.700000:1:b", "0.200000:2:c", "3.000000:0:a", "2.000000:1:b"},
		},
		"no batch, more asked for than there are": {
			tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{3}, Data: fp32(1, 2, 3)}, nil, 9, false,
			tensor.Shape{3}, []string{"3.000000:2", "2.000000:1", "1.000000:0"},
		},
		"too few labels, ties, NaN and infinity": {
			tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{1, 5}, Data: fp32(nan, 1, 1, inf, -1)}, []string{"n", "o"}, 5, true,
			tensor.Shape{1, 5}, []string{"+Inf:3", "1.000000:1:o", "1.000000:2", "-1.000000:4", "NaN:0:n"},
		},
		"integers keep their digits": {
			tensor.Tensor{Datatype: tensor.Int64, Shape: tensor.Shape{1, 3}, Data: binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(
				binary.LittleEndian.AppendUint64(nil, 1<<62), 1<<62+1), 1<<63)}, nil, 3, true,
			tensor.Shape{1, 3}, []string{"4611686018427387905:1", "4611686018427387904:0", "-9223372036854775808:2"},
		},
		"dimensions beyond the batch are one": {
			tensor.Tensor{Datatype: tensor.Uint8, Shape: tensor.Shape{1, 2, 2}, Data: []byte{1, 250, 3, 4}}, nil, 1, true,
			tensor.Shape{1, 1}, []string{"250:1"},
		},
		"no rows": {
			tensor.Tensor{Datatype: tensor.FP64, Shape: tensor.Shape{0, 4}}, nil, 3, true, tensor.Shape{0, 3}, []string{},
		},
		"no rows of a billion classes": {
			tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{0, 1e9}}, nil, 3, true, tensor.Shape{0, 3}, []string{},
		},
		"a billion billion rows of no classes": {
			tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{1e18, 0}}, nil, 3, true, tensor.Shape{1e18, 0}, []string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			shape, got := classes(t, tt.scores, model.Port{Labels: tt.labels}, tt.k, tt.batched)
			if !shape.Equal(tt.shape) {
				t.Errorf("shape %s, want %s", shape, tt.shape)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, bad := range []tensor.Datatype{tensor.Bool, tensor.FP16, tensor.BF16, tensor.Bytes} {
		if _, _, err := Classify(nil, &tensor.Tensor{Name: "x", Datatype: bad}, &model.Port{}, 1, true); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, _, err := Classify(nil, &tensor.Tensor{Datatype: tensor.FP32}, &model.Port{}, 0, true); !fault.Is(err, fault.Invalid) {
		t.Errorf("no classes: %v", err)
	}
}

// What the ranking takes counts before it is set aside, and what the answer
// takes until the caller returns it.
func TestClassifyCountsItsMemory(t *testing.T) {
	scores := tensor.Tensor{Datatype: tensor.Uint8, Shape: tensor.Shape{1, 1000}, Data: make([]byte, 1000)}
	memory := budget.New(60_000, "memory")
	account, other := memory.Account(), memory.Account()
	if err := other.Acquire(10_000); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Classify(&account, &scores, &model.Port{}, 1000, true); !fault.Is(err, fault.Unavailable) || account.Held() != 0 {
		t.Errorf("without room: %v, %d bytes held", err, account.Held())
	}
	other.Release()
	_, slab, err := Classify(&account, &scores, &model.Port{}, 1000, true)
	if err != nil || account.Held() < int64(len(slab.B)) {
		t.Errorf("%v, %d bytes held for %d", err, account.Held(), len(slab.B))
	}
	slab.Release()
}

// The best class of a row does not depend on its neighbours nor on the type
// that small integers come in.
func TestClassifyIsPerRowAndPerValue(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows, width := rapid.IntRange(1, 4).Draw(r, "rows"), rapid.IntRange(1, 6).Draw(r, "classes")
		k := rapid.IntRange(1, 7).Draw(r, "k")
		values := rapid.SliceOfN(rapid.Int8(), rows*width, rows*width).Draw(r, "values")
		var narrow, wide []byte
		for _, v := range values {
			narrow = append(narrow, byte(v))
			wide = binary.LittleEndian.AppendUint32(wide, uint32(int32(v)))
		}
		_, whole := classes(t, tensor.Tensor{Datatype: tensor.Int8, Shape: tensor.Shape{int64(rows), int64(width)}, Data: narrow}, model.Port{}, k, true)
		var single []string
		for i := range rows {
			_, row := classes(t, tensor.Tensor{Datatype: tensor.Int32, Shape: tensor.Shape{int64(width)}, Data: wide[4*i*width : 4*(i+1)*width]}, model.Port{}, k, false)
			single = append(single, row...)
		}
		if diff := cmp.Diff(single, whole); diff != "" {
			r.Fatal(diff)
		}
	})
}
