package evidence

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/evidence/sequential"
)

// Values of the textbook's formula, by R's binom.confint(method = "wilson").
func TestWilsonKnown(t *testing.T) {
	for c, want := range map[sequential.Count]sequential.Interval{
		{N: 0, Hits: 0}:    {Low: 0, High: 1},
		{N: 10, Hits: 0}:   {Low: 0, High: 0.2775328},
		{N: 10, Hits: 10}:  {Low: 0.7224672, High: 1},
		{N: 100, Hits: 5}:  {Low: 0.02154368, High: 0.1117505},
		{N: 1000, Hits: 1}: {Low: 0.0001765547, High: 0.005642412},
	} {
		got := Wilson(c)
		if math.Abs(got.Low-want.Low) > 1e-6 || math.Abs(got.High-want.High) > 1e-6 {
			t.Errorf("%+v: %+v, expected %+v", c, got, want)
		}
	}
}

func TestWilsonHasTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 1<<40).Draw(t, "n")
		c := sequential.Count{N: n, Hits: rapid.Int64Range(0, n).Draw(t, "hits")}
		if i := Wilson(c); !(i.Low >= 0 && i.Low <= c.Rate() && c.Rate() <= i.High && i.High <= 1) {
			t.Fatalf("%+v: %+v", c, i)
		}
	})
}
