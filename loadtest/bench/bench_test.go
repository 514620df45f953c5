package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
)

func TestGoalLines(t *testing.T) {
	atMost := goal{name: "a", bound: 1.15, unit: "x"}
	atLeast := goal{name: "b", atLeast: true, bound: 95, unit: "%"}
	for _, tt := range []struct{ got, want string }{
		{atMost.line(1.149, true), "goal a 1.149x <=1.15x ok"},
		{atMost.line(1.15, true), "goal a 1.15x <=1.15x ok"},
		{atMost.line(1.151, true), "goal a 1.151x <=1.15x short"},
		{atMost.line(-3, true), "goal a -3x <=1.15x ok"},
		{atMost.line(0, false), "goal a unmeasured <=1.15x short"},
		{atLeast.line(95, true), "goal b 95% >=95% ok"},
		{atLeast.line(94.2, true), "goal b 94.2% >=95% short"},
		{atLeast.line(math.NaN(), true), "goal b NaN% >=95% short"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
		if n := len(strings.Fields(tt.got)); n != 5 {
			t.Errorf("%q has %d fields; scripts expect 5", tt.got, n)
		}
	}
}

func TestEveryGoalHasAPart(t *testing.T) {
	for _, g := range goals {
		if _, err := choose(g.part); err != nil {
			t.Errorf("goal %s: %v", g.name, err)
		}
	}
	var out bytes.Buffer
	r := &report{out: &out, measured: map[string]float64{"ready": 1}}
	r.goals(parts)
	if n := strings.Count(out.String(), "\ngoal "); n != len(goals) {
		t.Errorf("%d goal lines for %d goals:\n%s", n, len(goals), out.String())
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(parts) {
		t.Errorf("%d parts, %v", len(all), err)
	}
	if two, err := choose("json, rows"); err != nil || len(two) != 2 || two[1].name != "rows" {
		t.Errorf("%v, %v", two, err)
	}
	if _, err := choose("json,speed"); err == nil || !strings.Contains(err.Error(), "overload") {
		t.Errorf("an unknown part must be refused with the known ones, got %v", err)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{5, 1, 100}, 5}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
	}
}

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
	if err := sameOutputs([]tensor.Tensor{good}, want); err != nil {
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
		if sameOutputs(got, want) == nil {
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
	a, again, b := makeInputs(ports, 2, 1), makeInputs(ports, 2, 1), makeInputs(ports, 2, 2)
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

func TestMetricsSum(t *testing.T) {
	m := metrics("# HELP n x\nn{model=\"a\",version=\"1\"} 3\nn{model=\"b\",version=\"1\"} 1e+06\nnn 7\nn_total{model=\"a\"} 9\nplain 2.5\n")
	for _, tt := range []struct {
		name, label string
		want        float64
	}{{"n", "", 1000003}, {"n", `model="a"`, 3}, {"plain", "", 2.5}, {"n", `model="c"`, 0}, {"absent", "", 0}} {
		if got := m.sum(tt.name, tt.label); got != tt.want {
			t.Errorf("%s{%s} is %v, want %v", tt.name, tt.label, got, tt.want)
		}
	}
}

func TestBadFlagsAreRefusedBeforeAnythingStarts(t *testing.T) {
	for _, args := range [][]string{{"-only", "nothing"}, {"-rounds", "7"}} {
		if err := run(t.Context(), args, new(bytes.Buffer)); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
