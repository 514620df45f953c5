package sequential

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// figures are SciPy's, see ../testdata/figures.py.
type figures struct {
	Proportion []struct {
		N, Hits          int64
		Alpha, Low, High float64
	}
	Ranks []struct {
		N         int64
		Q, Alpha  float64
		Low, High int64
	}
	MSPRT []struct {
		A, B      Count
		Effect, P float64
	}
	SampleRatio []struct {
		Ratio
		P float64
	} `json:"sample_ratio"`
	Mean []struct {
		Values                  []float64
		Alpha, Tuned, Low, High float64
	}
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-8*math.Abs(want)+1e-12 }

// Other software, by other ways, has the same figures.
func TestFiguresAreSciPys(t *testing.T) {
	data, err := os.ReadFile("../testdata/figures.json")
	if err != nil {
		t.Fatal(err)
	}
	var f figures
	if err := json.Unmarshal(data, &f); err != nil || min(len(f.Proportion), len(f.Ranks), len(f.MSPRT), len(f.SampleRatio), len(f.Mean)) == 0 {
		t.Fatalf("%v: %+v", err, f)
	}
	for _, c := range f.Proportion {
		if got := Proportion(Count{c.N, c.Hits}, c.Alpha); !near(got.Low, c.Low) || !near(got.High, c.High) {
			t.Errorf("%d of %d: got %v, want [%g, %g]", c.Hits, c.N, got, c.Low, c.High)
		}
	}
	for _, c := range f.Ranks {
		if low, high := Ranks(c.N, c.Q, c.Alpha); low != c.Low || high != c.High {
			t.Errorf("the %g-quantile of %d: got %d to %d, want %d to %d", c.Q, c.N, low, high, c.Low, c.High)
		}
	}
	for _, c := range f.MSPRT {
		if got := MSPRT(c.A, c.B, 0, c.Effect); !near(got, c.P) {
			t.Errorf("%v against %v: p is %g, want %g", c.A, c.B, got, c.P)
		}
	}
	for _, c := range f.SampleRatio {
		if got, err := SampleRatio(c.Ratio); err != nil || !near(got, c.P) {
			t.Errorf("%v: p is %g, %v, want %g", c.Ratio, got, err, c.P)
		}
	}
	for _, c := range f.Mean {
		if got := Mean(momentsOf(c.Values), c.Alpha, c.Tuned); !near(got.Low, c.Low) || !near(got.High, c.High) {
			t.Errorf("got %v, want [%g, %g]", got, c.Low, c.High)
		}
	}
}

func momentsOf(values []float64) Moments {
	var m Moments
	for _, x := range values {
		m.Add(x)
	}
	return m
}

// Moments of parts merge to those of the whole.
func TestMomentsMerge(t *testing.T) {
	values := rapid.SliceOf(rapid.Float64Range(-1e3, 1e3))
	alike := func(a, b Moments) bool {
		return a.N == b.N && math.Abs(a.Mean-b.Mean) < 1e-9 && math.Abs(a.M2-b.M2) < 1e-9*(1+b.M2)
	}
	rapid.Check(t, func(t *rapid.T) {
		x, y, z := values.Draw(t, "x"), values.Draw(t, "y"), values.Draw(t, "z")
		whole := momentsOf(append(append(append([]float64{}, x...), y...), z...))
		left, right := momentsOf(x), momentsOf(z)
		left.Merge(momentsOf(y))
		left.Merge(momentsOf(z))
		right.Merge(momentsOf(x))
		right.Merge(momentsOf(y))
		if !alike(left, whole) || !alike(right, whole) {
			t.Fatalf("parts give %+v and %+v, the whole %+v", left, right, whole)
		}
	})
}

// What no observation supports is not claimed.
func TestNothingIsKnownOfNothing(t *testing.T) {
	var none, one Moments
	one.Add(7)
	same := momentsOf([]float64{2, 2, 2})
	for _, got := range []Interval{
		Mean(none, alpha, 100), Mean(one, alpha, 100), Mean(same, alpha, 100), MeanDifference(none, same, alpha, 100),
		ProportionDifference(Count{}, Count{5, 1}, alpha, 0.1),
	} {
		if got != Everything {
			t.Errorf("got %v", got)
		}
	}
	if got := Proportion(Count{}, alpha); got != (Interval{0, 1}) {
		t.Errorf("got %v", got)
	}
	if low, high := Ranks(0, 0.99, alpha); low != 0 || high != 1 {
		t.Errorf("got ranks %d to %d of none", low, high)
	}
	if p := MSPRT(Count{}, Count{}, 0, 0.1); p != 1 {
		t.Errorf("p is %g", p)
	}
	if p, err := SampleRatio(); p != 1 || err != nil {
		t.Errorf("p is %g, %v", p, err)
	}
}

// An interval has the estimate, lies within what a rate can be, and is exactly
// where the test does not refuse.
func TestIntervalsAndTestsAgree(t *testing.T) {
	counts := rapid.Custom(func(t *rapid.T) Count {
		n := rapid.Int64Range(1, 100_000).Draw(t, "n")
		return Count{n, rapid.Int64Range(0, n).Draw(t, "hits")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := counts.Draw(t, "a"), counts.Draw(t, "b")
		level := rapid.SampledFrom([]float64{0.001, 0.05, 0.2}).Draw(t, "alpha")
		p := Proportion(a, level)
		if !p.Has(a.Rate()) || p.Low < 0 || p.High > 1 {
			t.Fatalf("the rate %g is not in %v", a.Rate(), p)
		}
		if x := rapid.Float64Range(1e-6, 1-1e-6).Draw(t, "rate"); math.Abs(x-p.Low) > 1e-9 && math.Abs(x-p.High) > 1e-9 && p.Has(x) != (logMixture(a, x) < -math.Log(level)) {
			t.Fatalf("the rate %g and %v do not agree", x, p)
		}
		d := ProportionDifference(a, b, level, 0.01)
		x := rapid.Float64Range(-1, 1).Draw(t, "difference")
		if math.Abs(x-d.Low) > 1e-9 && math.Abs(x-d.High) > 1e-9 && d.Has(x) != (MSPRT(a, b, x, 0.01) > level) {
			t.Fatalf("the difference %g and %v do not agree", x, d)
		}
		if e := ProportionDifferenceExact(a, b, level); !e.Has(b.Rate() - a.Rate()) {
			t.Fatalf("%v has not the difference %g", e, b.Rate()-a.Rate())
		}
	})
}

// Evidence of parts with other weights adds up, and what cannot be is certain.
func TestSampleRatioOfParts(t *testing.T) {
	half, tenth := Ratio{[]int64{5300, 4700}, []float64{0.5, 0.5}}, Ratio{[]int64{9200, 800}, []float64{0.9, 0.1}}
	p, _ := SampleRatio(half)
	q, _ := SampleRatio(tenth)
	if both, err := SampleRatio(half, tenth); err != nil || !near(both, p*q) || p == 1 || q == 1 {
		t.Errorf("p is %g, %v; want %g times %g", both, err, p, q)
	}
	if p, err := SampleRatio(Ratio{[]int64{10, 1}, []float64{1, 0}}); p != 0 || err != nil {
		t.Errorf("an arm without weight has a unit: p is %g, %v", p, err)
	}
	for name, r := range map[string]Ratio{
		"not a share":  {[]int64{1, 1}, []float64{1.5, -0.5}},
		"not a number": {[]int64{1, 1}, []float64{math.NaN(), 1}},
		"half":         {[]int64{1}, []float64{0.5}},
		"arms":         {[]int64{1}, []float64{0.5, 0.5}},
		"negative":     {[]int64{-1, 1}, []float64{0.5, 0.5}},
	} {
		if _, err := SampleRatio(r); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIntervalsAsJSON(t *testing.T) {
	for _, want := range []Interval{{-0.5, 1.25}, Everything, {math.Inf(-1), 3}} {
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Interval
		if err := json.Unmarshal(data, &got); err != nil || got != want {
			t.Errorf("%v became %s, then %v: %v", want, data, got, err)
		}
	}
	if err := json.Unmarshal([]byte(`["a"]`), new(Interval)); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}
