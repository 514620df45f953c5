package drift

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func sketch(values ...float64) *Sketch {
	s := new(Sketch)
	for _, x := range values {
		s.Add(x)
	}
	return s
}

// However numbers are divided among sketches, all together they come to the same; and
// come back from bytes as they were.
func TestSketchesMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1), rapid.Just(math.NaN()), rapid.Just(math.Copysign(0, -1))), 0, 2000).Draw(t, "values")
		cut := 0
		if len(values) > 0 {
			cut = rapid.IntRange(0, len(values)).Draw(t, "cut")
		}
		for _, parts := range [][2]*Sketch{{sketch(values[:cut]...), sketch(values[cut:]...)}, {sketch(values[cut:]...), sketch(values[:cut]...)}} {
			whole := sketch(values...)
			for range rapid.IntRange(0, 300).Draw(t, "samples") {
				whole.End()
				parts[1].End()
			}
			parts[0].Merge(parts[1])
			if a, b := whole.Samples(), parts[0].Samples(); a != b {
				t.Fatalf("%d samples have come to %d", a, b)
			}
			a, _ := whole.MarshalBinary()
			b, _ := parts[0].MarshalBinary()
			if !bytes.Equal(a, b) || parts[0].Total() != int64(len(values)) {
				t.Fatalf("the parts come to %x, all at once to %x", b, a)
			}
			back := new(Sketch)
			if err := back.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
			if again, _ := back.MarshalBinary(); !bytes.Equal(again, b) {
				t.Fatalf("%x came back as %x", b, again)
			}
		}
	})
}

// Distances of sketches are those of the numbers, wherever these lie.
func TestSketchesTellDrift(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	normal := func(mean, deviation float64) *Sketch {
		s := new(Sketch)
		for range 20_000 {
			s.Add(mean + deviation*r.NormFloat64())
		}
		return s
	}
	for name, c := range map[string]struct {
		a, b     *Sketch
		low, top float64 // of the index less chance
		ks       float64
	}{
		"alike":           {normal(0, 1), normal(0, 1), 0, 0.003, 0},
		"half a sigma":    {normal(0, 1), normal(0.5, 1), 0.2, 0.3, 0.197},
		"far from zero":   {normal(1000, 1), normal(1000.5, 1), 0.2, 0.3, 0.197},
		"nothing alike":   {normal(-5, 1), normal(5, 1), 5, 30, 1},
		"two values":      {twice(500, 0, 500, 1), twice(100, 0, 900, 1), 0.8, 1, 0.4},
		"missing in one":  {twice(500, 0, 500, 1), twice(500, 0, 500, math.NaN()), 5, 10, 0.5},
		"beyond all else": {twice(1000, 1, 0, 0), twice(500, 1, 500, 7), 3, 10, 0.5},
	} {
		d, err := CompareSketches(c.a, c.b)
		if err != nil || d.Shift() < c.low || d.Shift() > c.top || math.Abs(d.KS-c.ks) > 0.02 || d.JS < 0 || d.JS > 1 {
			t.Errorf("%s: %+v, %v, shift %g", name, d, err, d.Shift())
		}
	}
	if _, err := CompareSketches(twice(199, 0, 0, 0), normal(0, 1)); err == nil {
		t.Error("199 observations are enough")
	}
	if _, err := CompareSketches(nil, nil); err == nil {
		t.Error("nothing is enough")
	}
}

func twice(n int, x float64, m int, y float64) *Sketch {
	s := new(Sketch)
	for range n {
		s.Add(x)
	}
	for range m {
		s.Add(y)
	}
	return s
}

func FuzzSketch(f *testing.F) {
	b, _ := sketch(1, 2, math.NaN(), -5).MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := new(Sketch)
		if s.UnmarshalBinary(b) != nil {
			return
		}
		again, _ := s.MarshalBinary()
		back := new(Sketch)
		if err := back.UnmarshalBinary(again); err != nil || back.Total() != s.Total() {
			t.Errorf("%x came back as %x: %v", b, again, err)
		}
	})
}
