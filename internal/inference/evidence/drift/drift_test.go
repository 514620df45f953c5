package drift

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
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

// over counts values over all that either side has, in order.
func over[T cmp.Ordered](reference, window map[T]int64) (a, b counts) {
	all := maps.Clone(reference)
	maps.Copy(all, window)
	for _, v := range slices.Sorted(maps.Keys(all)) {
		a, b = append(a, reference[v]), append(b, window[v])
	}
	return a, b
}

func tally(values []float64) map[float64]int64 {
	n := map[float64]int64{}
	for _, v := range values {
		n[v]++
	}
	return n
}

func TestDistancesAreSciPys(t *testing.T) {
	f := read(t)
	same := func(name string, a, b counts, wantPSI, wantJS float64) {
		t.Helper()
		if index, _ := psi(a, b); !near(index, wantPSI) || !near(jensenShannon(a, b), wantJS) {
			t.Errorf("%s: PSI %g and JS %g, want %g and %g", name, index, jensenShannon(a, b), wantPSI, wantJS)
		}
	}
	for _, c := range f.Numeric {
		a, b := over(tally(c.Reference), tally(c.Window))
		same(c.Name, a, b, c.PSI, c.JS)
		d, err := CompareSketches(sketch(c.Reference...), sketch(c.Window...))
		if err != nil || !near(d.KS, c.KS) || !near(d.KSP, c.KSP) {
			t.Errorf("%s: got %+v, %v; want KS %g with p %g", c.Name, d, err, c.KS, c.KSP)
		}
	}
	for _, c := range f.Categorical {
		a, b := over(c.Reference, c.Window)
		same(c.Name, a, b, c.PSI, c.JS)
	}
	for _, c := range f.Kolmogorov {
		if got := kolmogorov(c.X); !near(got, c.P) {
			t.Errorf("kolmogorov(%g) = %g, want %g", c.X, got, c.P)
		}
	}
}

// Distances are what distances are: zero from oneself, symmetric where they promise it,
// bounded.
func TestLaws(t *testing.T) {
	values := rapid.SliceOfN(rapid.OneOf(rapid.Float64(), rapid.Float64Range(-3, 3), rapid.SampledFrom([]float64{0, 1, math.NaN(), math.Inf(1), math.Inf(-1)})), MinCount, 3*MinCount)
	rapid.Check(t, func(t *rapid.T) {
		x, y := sketch(values.Draw(t, "x")...), sketch(values.Draw(t, "y")...)
		d, err := CompareSketches(x, y)
		if err != nil {
			t.Fatal(err)
		}
		if e, _ := CompareSketches(y, x); !near(d.KS, e.KS) || !near(d.KSP, e.KSP) {
			t.Fatalf("%+v one way, %+v the other", d, e)
		}
		if d.JS < 0 || d.JS > 1 || d.KS < 0 || d.KS > 1+1e-12 || !(d.PSI >= 0) || math.IsInf(d.PSI, 0) || d.KSP < 0 || d.KSP > 1 {
			t.Fatalf("out of bounds: %+v", d)
		}
		if same, _ := CompareSketches(x, x); same.PSI > 1e-12 || same.KS != 0 || same.JS > 1e-6 {
			t.Fatalf("from itself: %+v", same)
		}
	})
}

// The noise is what the index is without drift, and drift stands out from it, by a distance
// that is about that of the numbers themselves.
func TestNoiseAndDrift(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	sample := func(n int, mean float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = mean + r.NormFloat64()
		}
		return out
	}
	numbers := sample(5000, 0)
	reference := sketch(numbers...)
	index, noise := 0.0, 0.0
	const rounds = 200
	for range rounds {
		d, err := CompareSketches(reference, sketch(sample(1000, 0)...))
		if err != nil {
			t.Fatal(err)
		}
		index, noise = index+d.PSI/rounds, noise+d.Noise/rounds
	}
	if math.Abs(index-noise) > 0.2*noise {
		t.Errorf("without drift the index is %g on average, want about %g", index, noise)
	}
	drifted := sample(1000, 0.7)
	d, _ := CompareSketches(reference, sketch(drifted...))
	exact := distanceOfSamples(numbers, drifted)
	if d.Shift() < 0.25 || d.KSP > 1e-6 || d.KS > exact+1e-12 || d.KS < exact-0.02 {
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
	for _, at := range slices.Concat(x, y) {
		most = max(most, math.Abs(share(x, at)-share(y, at)))
	}
	return most
}
