package shadow

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// differs compares answers of one output by a configuration.
func differs(t rapid.TB, c Config, a, b tensor.Tensor, rows int) Difference {
	r, err := NewReport(c)
	if err != nil {
		t.Fatal(err)
	}
	return r.Compare([]tensor.Tensor{a}, []tensor.Tensor{b}, rows)
}

func TestWhatAgrees(t *testing.T) {
	values := Config{Top: 1, MaxElements: 1000, Values: true}
	argmax := Config{Top: 1, MaxElements: 1000}
	exact := Config{Top: 1, MaxElements: 1000, Values: true, Tolerance: &Tolerance{}}
	nan := float32(math.NaN())
	y := floats("y", tensor.Shape{2, 2}, 1, 2, 4, 3)
	text := func(s ...string) tensor.Tensor {
		out := tensor.Tensor{Name: "y", Datatype: tensor.Bytes, Shape: tensor.Shape{int64(len(s)), 1}}
		for _, s := range s {
			out.Data = tensor.AppendBytes(out.Data, s)
		}
		return out
	}
	truth := func(b ...byte) tensor.Tensor {
		return tensor.Tensor{Name: "y", Datatype: tensor.Bool, Shape: tensor.Shape{int64(len(b)), 1}, Data: b}
	}
	for name, c := range map[string]struct {
		config Config
		a, b   tensor.Tensor
		want   int64
	}{
		"the same":                   {exact, y, y, 0},
		"the same class":             {argmax, y, floats("y", tensor.Shape{2, 2}, 0, 9, 9, 0), 0},
		"another class":              {argmax, y, floats("y", tensor.Shape{2, 2}, 0, 9, 3, 4), 1},
		"not a number, in one":       {argmax, y, floats("y", tensor.Shape{2, 2}, nan, 2, 4, 3), 1},
		"not a number, in both":      {values, floats("y", tensor.Shape{2, 2}, nan, 2, 4, 3), floats("y", tensor.Shape{2, 2}, nan, 2, 4, 3), 0},
		"other values":               {values, y, floats("y", tensor.Shape{2, 2}, 0, 9, 9, 0), 2},
		"another order of summation": {values, y, floats("y", tensor.Shape{2, 2}, 1.0001, 2.002, 4, 3), 0},
		"that, exactly":              {exact, y, floats("y", tensor.Shape{2, 2}, 1.0001, 2, 4, 3), 1},
		"one value each":             {argmax, floats("y", tensor.Shape{2, 1}, 1, 2), floats("y", tensor.Shape{2, 1}, 1, 3), 1},
		"a value for all rows":       {argmax, floats("y", tensor.Shape{1}, 1), floats("y", tensor.Shape{1}, 2), 2},
		"another shape":              {argmax, y, floats("y", tensor.Shape{2, 1}, 1, 2), 2},
		"texts":                      {argmax, text("a", "b"), text("a", "c"), 1},
		"truth":                      {Config{Top: 1, MaxElements: 9, Tolerance: &Tolerance{Absolute: 5}}, truth(0, 1), truth(1, 1), 1},
	} {
		if d := differs(t, c.config, c.a, c.b, 2); d.Differ != c.want || d.Rows != 2 || d.Agrees() != (c.want == 0) || (d.Output == "y") != (c.want > 0) {
			t.Errorf("%s: %+v, want %d of 2 rows", name, d, c.want)
		}
	}
	if d := differs(t, Config{Top: 1, MaxElements: 3}, y, y, 2); d.Rows != 1 || d.Skipped != 1 {
		t.Errorf("a row that was compared in part counts: %+v", d)
	}
}

var datatypes = []tensor.Datatype{tensor.Bool, tensor.Uint8, tensor.Int8, tensor.Int32, tensor.Int64, tensor.Uint64, tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64, tensor.Bytes}

// pairOf draws two answers of one shape, of which rows may be the same.
func pairOf(t *rapid.T, rows int) (a, b tensor.Tensor, each [][2]tensor.Tensor) {
	d := rapid.SampledFrom(datatypes).Draw(t, "datatype")
	inner := rapid.SliceOfN(rapid.Int64Range(1, 3), 0, 2).Draw(t, "inner")
	a = tensor.Tensor{Name: "y", Datatype: d, Shape: append(tensor.Shape{int64(rows)}, inner...)}
	b = a
	for range rows {
		x := drawTensor(t, d, append(tensor.Shape{1}, inner...))
		y := x
		if rapid.Bool().Draw(t, "another") {
			y = drawTensor(t, d, x.Shape)
		}
		each = append(each, [2]tensor.Tensor{x, y})
		a.Data, b.Data = append(a.Data, x.Data...), append(b.Data, y.Data...)
	}
	return a, b, each
}

func configOf(t *rapid.T) Config {
	c := Config{Top: rapid.IntRange(1, 3).Draw(t, "top"), MaxElements: 1 << 20, Values: rapid.Bool().Draw(t, "values")}
	if rapid.Bool().Draw(t, "tolerant") {
		c.Tolerance = &Tolerance{rapid.Float64Range(0, 10).Draw(t, "absolute"), rapid.Float64Range(0, 1).Draw(t, "relative")}
	}
	return c
}

// Whatever the datatype: an answer agrees with itself; rows that were answered
// together differ as each by itself; more tolerance makes no row differ; and what
// differs has a reason.
func TestLawsOfAgreement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, rows := configOf(t), rapid.IntRange(0, 4).Draw(t, "rows")
		a, b, each := pairOf(t, rows)
		if d := differs(t, c, a, a, rows); d != (Difference{Rows: int64(rows)}) {
			t.Fatalf("an answer differs from itself: %+v", d)
		}
		together, apart := differs(t, c, a, b, rows), int64(0)
		for _, p := range each {
			apart += differs(t, c, p[0], p[1], 1).Differ
		}
		if together.Differ != apart || together.Rows != int64(rows) {
			t.Fatalf("%d rows differ together, %d apart: %+v", together.Differ, apart, together)
		}
		if (together.Differ > 0) != (together.Excess > 0) && rows > 0 {
			t.Fatalf("no reason, or one for nothing: %+v", together)
		}
		absolute, relative := tensor.Tolerance(a.Datatype)
		if c.Tolerance != nil {
			absolute, relative = c.Tolerance.Absolute, c.Tolerance.Relative
		}
		wider := c
		wider.Tolerance = &Tolerance{absolute + rapid.Float64Range(0, 1).Draw(t, "more"), relative + rapid.Float64Range(0, 1).Draw(t, "relatively more")}
		if d := differs(t, wider, a, b, rows); d.Differ > together.Differ {
			t.Fatalf("%d rows differ within %+v, and %d within %+v", together.Differ, c.Tolerance, d.Differ, *wider.Tolerance)
		}
	})
}

// The worst answers are the same ones in whichever order parts are merged.
func TestTheWorstAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Worst {
			return Worst{Difference{Rows: 3, Differ: rapid.Int64Range(0, 3).Draw(t, "rows"), Excess: rapid.Float64Range(0, 4).Draw(t, "excess")}, "p", "q"}
		}), 0, 3*MaxWorst).Draw(t, "all")
		var parts [3]*Report
		whole, _ := NewReport(config)
		for i := range parts {
			parts[i], _ = NewReport(config)
		}
		for i, w := range all {
			if whole.Worse(w.Difference) != (w.Differ > 0 && (len(whole.Worst) < MaxWorst || w.greater(whole.Worst[MaxWorst-1].Difference))) {
				t.Fatalf("%+v among %+v", w, whole.Worst)
			}
			whole.Keep(w)
			parts[i%3].Keep(w)
		}
		for _, i := range []int{2, 0} {
			if err := parts[1].Merge(parts[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(parts[1].Worst, whole.Worst) {
			t.Fatalf("merged %+v, want %+v", parts[1].Worst, whole.Worst)
		}
	})
}

func TestNumbersMerge(t *testing.T) {
	n, err := NewNumbers(config)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := NewNumbers(config)
	y := floats("y", tensor.Shape{1, 2}, 1, 2)
	for _, x := range []*Numbers{n, o} {
		x.Report.Compare([]tensor.Tensor{y}, []tensor.Tensor{y}, 1)
		x.Ran(time.Millisecond, 2*time.Millisecond)
		x.Failed++
		x.Dropped[Busy] += 2
	}
	if err := n.Merge(o); err != nil || n.Total() != 8 || n.Candidate.Count() != 2 || n.Champion.Quantile(1) >= n.Candidate.Quantile(0) || n.Dropped[Busy] != 4 {
		t.Errorf("%+v, %v", n, err)
	}
	other, _ := NewNumbers(Config{Top: 3, MaxElements: 1000, Tolerance: &Tolerance{}})
	if n.Merge(other) == nil {
		t.Error("reports of two tolerances add up")
	}
	for _, p := range []Policy{{}, {Sample: 2, Config: config}, {Sample: math.NaN(), Config: config}, {Sample: 1}, {Sample: 1, Config: Config{Top: 1, MaxElements: 1, Tolerance: &Tolerance{Absolute: -1}}}} {
		if err := p.Validate(); fault.CodeOf(err) != "shadow_config" {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if err := DefaultPolicy().Validate(); err != nil {
		t.Error(err)
	}
}
