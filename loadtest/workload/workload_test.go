package workload

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
)

// The comparison guards the whole benchmark: every way to be wrong must show.
func TestWrongOutputsAreSeen(t *testing.T) {
	output := func(name string, d tensor.Datatype, shape tensor.Shape, values ...float32) tensor.Tensor {
		x := tensor.Tensor{Name: name, Datatype: d, Shape: shape}
		for _, v := range values {
			x.Data = binary.LittleEndian.AppendUint32(x.Data, math.Float32bits(v))
		}
		return x
	}
	want := []tensor.Tensor{output("y", tensor.FP32, tensor.Shape{1, 2}, 1, 1000)}
	good := output("y", tensor.FP32, tensor.Shape{1, 2}, 1.0001, 1000.05)
	if err := Compare([]tensor.Tensor{good}, want); err != nil {
		t.Errorf("rounding: %v", err)
	}
	nan := float32(math.NaN())
	for name, got := range map[string][]tensor.Tensor{
		"none":            nil,
		"one too many":    {good, good},
		"another name":    {output("z", tensor.FP32, tensor.Shape{1, 2}, 1, 1000)},
		"another shape":   {output("y", tensor.FP32, tensor.Shape{2, 1}, 1, 1000)},
		"another type":    {output("y", tensor.Int32, tensor.Shape{1, 2}, 1, 1000)},
		"another value":   {output("y", tensor.FP32, tensor.Shape{1, 2}, 1.001, 1000)},
		"not a number":    {output("y", tensor.FP32, tensor.Shape{1, 2}, 1, nan)},
		"somebody else's": {output("y", tensor.FP32, tensor.Shape{1, 2}, 1000, 1)},
	} {
		if Compare(got, want) == nil {
			t.Errorf("%s was not seen", name)
		}
	}
}

func TestInputsDifferBySeedOnly(t *testing.T) {
	ports := []model.Port{
		{Name: "input_ids", Datatype: tensor.Int64, Shape: tensor.Shape{-1, -1}},
		{Name: "attention_mask", Datatype: tensor.Int64, Shape: tensor.Shape{-1, -1}},
		{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 4}},
	}
	a, again, b := Inputs(ports, 2, Tokens, 1), Inputs(ports, 2, Tokens, 1), Inputs(ports, 2, Tokens, 2)
	for i := range a {
		if err := a[i].Validate(); err != nil || a[i].Shape[0] != 2 {
			t.Errorf("%s %s: %v", a[i].Name, a[i].Shape, err)
		}
		if !bytes.Equal(a[i].Data, again[i].Data) {
			t.Errorf("%s: the same seed gave other data", a[i].Name)
		}
		if same := bytes.Equal(a[i].Data, b[i].Data); same != (a[i].Name == "attention_mask") {
			t.Errorf("%s: another seed, same data: %v", a[i].Name, same)
		}
	}
	if ports[0].Shape[0] != -1 {
		t.Error("the signature was changed")
	}
}
