package drift

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// figures are SciPy's, see ../testdata/figures.py.
type figures struct {
	Numeric []struct {
		Name              string
		Reference, Window []float64
		KS                float64
		KSP               float64 `json:"ks_p"`
		PSI, JS           float64
	}
	Categorical []struct {
		Name              string
		Reference, Window map[string]int64
		PSI, JS           float64
	}
	Kolmogorov []struct{ X, P float64 }
}

func read(t *testing.T) figures {
	t.Helper()
	data, err := os.ReadFile("../testdata/figures.json")
	if err != nil {
		t.Fatal(err)
	}
	var f figures
	if err := json.Unmarshal(data, &f); err != nil || len(f.Numeric) == 0 || len(f.Categorical) == 0 || len(f.Kolmogorov) == 0 {
		t.Fatalf("%v: %+v", err, f)
	}
	return f
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-9*max(1, math.Abs(want)) }

func count(b *Bins, values []float64) Counts {
	c := make(Counts, b.Len())
	for _, x := range values {
		b.Add(&c, b.Of(x))
	}
	return c
}

func countNames(b *Bins, names map[string]int64) Counts {
	c := make(Counts, b.Len())
	for name, n := range names {
		c[b.OfName(name)] += n
	}
	return c
}

func TestDistancesAreSciPys(t *testing.T) {
	f := read(t)
	for _, c := range f.Numeric {
		b, err := NumericBins(c.Reference, MaxBins)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Compare(b, count(b, c.Reference), count(b, c.Window))
		if err != nil || !near(d.PSI, c.PSI) || !near(d.JS, c.JS) || !near(d.KS, c.KS) || !near(d.KSP, c.KSP) {
			t.Errorf("%s: got %+v, %v; want PSI %g, JS %g, KS %g with p %g", c.Name, d, err, c.PSI, c.JS, c.KS, c.KSP)
		}
	}
	for _, c := range f.Categorical {
		b, err := CategoryBins(c.Reference, 10)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Compare(b, countNames(b, c.Reference), countNames(b, c.Window))
		if err != nil || !near(d.PSI, c.PSI) || !near(d.JS, c.JS) || d.KS != 0 {
			t.Errorf("%s: got %+v, %v; want PSI %g, JS %g", c.Name, d, err, c.PSI, c.JS)
		}
	}
	for _, c := range f.Kolmogorov {
		if got := kolmogorov(c.X); !near(got, c.P) {
			t.Errorf("kolmogorov(%g) = %g, want %g", c.X, got, c.P)
		}
	}
}

// Counts of parts add up to those of the whole, in any order, and distances are
// what distances are: zero from oneself, symmetric where they promise it, bounded.
func TestLaws(t *testing.T) {
	values := rapid.SliceOfN(rapid.OneOf(rapid.Float64(), rapid.Float64Range(-3, 3), rapid.SampledFrom([]float64{0, 1, math.NaN(), math.Inf(1), math.Inf(-1)})), MinCount, 3*MinCount)
	rapid.Check(t, func(t *rapid.T) {
		x, y := values.Draw(t, "x"), values.Draw(t, "y")
		b, err := NumericBins(append(x, 0), rapid.IntRange(2, 50).Draw(t, "bins"))
		if err != nil {
			t.Fatal(err)
		}
		cut := rapid.IntRange(0, len(x)).Draw(t, "cut")
		var left, right Counts
		first, second, whole := count(b, x[:cut]), count(b, x[cut:]), count(b, x)
		for _, c := range []Counts{first, nil, second} {
			if err := left.Merge(c); err != nil {
				t.Fatal(err)
			}
		}
		_ = right.Merge(second)
		_ = right.Merge(first)
		if !slices.Equal(left, whole) || !slices.Equal(right, whole) || whole.Total() != int64(len(x)) {
			t.Fatalf("parts give %v and %v, the whole %v", left, right, whole)
		}
		d, err := Compare(b, whole, count(b, y))
		if err != nil {
			t.Fatal(err)
		}
		e, _ := Compare(b, count(b, y), whole)
		if !near(d.JS, e.JS) || !near(d.PSI, e.PSI) || !near(d.KS, e.KS) {
			t.Fatalf("%+v one way, %+v the other", d, e)
		}
		if d.JS < 0 || d.JS > 1 || d.KS < 0 || d.KS > 1+1e-12 || !(d.PSI >= 0) || math.IsInf(d.PSI, 0) || d.KSP < 0 || d.KSP > 1 {
			t.Fatalf("out of bounds: %+v", d)
		}
		if same, _ := Compare(b, whole, whole); same.PSI > 1e-12 || same.KS != 0 || same.JS > 1e-6 {
			t.Fatalf("from itself: %+v", same)
		}
	})
}

// Bins of the reference hold about equally many of its values.
func TestBinsAreEven(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	values := make([]float64, 10_000)
	for i := range values {
		values[i] = r.ExpFloat64()
	}
	b, err := NumericBins(values, 10)
	if err != nil || b.Len() != 11 {
		t.Fatalf("%d bins, %v", b.Len(), err)
	}
	for i, n := range count(b, values)[:10] {
		if n != 1000 {
			t.Errorf("bin %d has %d of 10000", i, n)
		}
	}
}

// Coarse bins lose at most a bin's share of Kolmogorov and Smirnov's distance,
// the noise is what the index is without drift, and drift stands out from it.
func TestNoiseAndDrift(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	sample := func(n int, mean float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = mean + r.NormFloat64()
		}
		return out
	}
	reference := sample(5000, 0)
	b, _ := NumericBins(reference, 10)
	index, noise := 0.0, 0.0
	const rounds = 200
	for range rounds {
		d, err := Compare(b, count(b, reference), count(b, sample(1000, 0)))
		if err != nil {
			t.Fatal(err)
		}
		index, noise = index+d.PSI/rounds, noise+d.Noise/rounds
	}
	if math.Abs(index-noise) > 0.2*noise {
		t.Errorf("without drift the index is %g on average, want about %g", index, noise)
	}
	drifted := sample(1000, 0.7)
	d, _ := Compare(b, count(b, reference), count(b, drifted))
	exact := distanceOfSamples(reference, drifted)
	if d.Shift() < 0.25 || d.KSP > 1e-6 || d.KS > exact+1e-12 || d.KS < exact-0.15 {
		t.Errorf("drift by 0.7 standard deviations: %+v; the samples' distance is %g", d, exact)
	}
}

// distanceOfSamples is Kolmogorov and Smirnov's distance without bins.
func distanceOfSamples(x, y []float64) float64 {
	share := func(values []float64, at float64) float64 {
		n := 0
		for _, v := range values {
			if v <= at {
				n++
			}
		}
		return float64(n) / float64(len(values))
	}
	most := 0.0
	for _, at := range y {
		most = max(most, math.Abs(share(x, at)-share(y, at)))
	}
	return most
}

func TestTooFewGiveNoAnswer(t *testing.T) {
	b, _ := CategoryBins(map[string]int64{"a": 1}, 5)
	if _, err := Compare(b, countNames(b, map[string]int64{"a": MinCount}), countNames(b, map[string]int64{"a": MinCount - 1})); fault.CodeOf(err) != "drift_too_few" {
		t.Errorf("got %v", err)
	}
	if _, err := Compare(b, Counts{MinCount}, countNames(b, map[string]int64{"a": MinCount})); fault.CodeOf(err) != "drift_counts" {
		t.Errorf("got %v", err)
	}
	c := Counts{1, 2}
	if err := c.Merge(Counts{1}); fault.CodeOf(err) != "drift_counts" {
		t.Errorf("got %v", err)
	}
}

// Rare, new and missing categories have bins of their own.
func TestCategories(t *testing.T) {
	b, err := CategoryBins(map[string]int64{"b": 5, "a": 5, "c": 1, "": 100}, 2)
	if err != nil || b.Len() != 4 {
		t.Fatalf("%+v, %v", b, err)
	}
	for name, want := range map[string]int{"a": 0, "b": 1, "c": 2, "new": 2, "": 3} {
		if got := b.OfName(name); got != want {
			t.Errorf("%q is in bin %d, want %d", name, got, want)
		}
	}
}

func TestBadBinsAreRefused(t *testing.T) {
	for name, err := range map[string]error{
		"one bin":       second(NumericBins([]float64{1}, 1)),
		"too many":      second(NumericBins([]float64{1}, MaxBins+1)),
		"no values":     second(NumericBins([]float64{math.NaN()}, 10)),
		"no categories": second(CategoryBins(map[string]int64{"": 1}, 10)),
		"no bins":       second(CategoryBins(map[string]int64{"a": 1}, 0)),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{`{}`, `[]`, `{"edges":[2,1]}`, `{"edges":[1,1]}`, `{"names":["b","a"]}`, `{"names":["a"],"edges":[1]}`} {
		if err := new(Bins).UnmarshalJSON([]byte(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func second(_ *Bins, err error) error { return err }

func FuzzBins(f *testing.F) {
	f.Add([]byte(`{"edges":[-1,0,2.5]}`), 0.5)
	f.Add([]byte(`{"names":["a","b"]}`), math.NaN())
	f.Fuzz(func(t *testing.T, data []byte, x float64) {
		var b, again Bins
		if json.Unmarshal(data, &b) != nil {
			return
		}
		out, err := json.Marshal(&b)
		if err != nil || string(data) != "null" && (json.Unmarshal(out, &again) != nil || !b.Equal(&again)) {
			t.Fatalf("%s: %v", out, err)
		}
		if i := b.Of(x); i < 0 || i >= b.Len() {
			t.Fatalf("%g is in bin %d of %d", x, i, b.Len())
		}
	})
}
