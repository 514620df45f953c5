package batcher

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestOneRunPoisonsNothing: a column of which the sweep knows a single row, and that is first run while the machine
// is busy with something else, does not say for ever after that such runs take a thousand times as long.
func TestOneRunPoisonsNothing(t *testing.T) {
	takes := linear(15*time.Microsecond, 100*time.Nanosecond)
	for rows := 1; rows <= 32; rows++ {
		c := seeded(32, takes)
		c.Seed(1, 1, takes(1))
		c.Observe(rows, 1, 20*millisecond)
		for n := 1; n <= 32; n++ {
			if est, most := c.Estimate(n, 1), 5*takes(32); est > most {
				t.Errorf("after one run of %d rows that took 20 ms, %d are said to take %v, more than %v", rows, n, est, most)
			}
		}
	}
}

// TestNothingGrowsByItself: sizes that are never run stay in proportion to those that are, however often these are.
func TestNothingGrowsByItself(t *testing.T) {
	takes := func(n int) time.Duration { // no line between 4 and 8
		return map[bool]time.Duration{true: 20 * time.Microsecond, false: 40 * time.Microsecond}[n <= 6]
	}
	c := seeded(32, takes)
	for range 1000 {
		c.Observe(6, 0, takes(6))
		c.Observe(7, 0, takes(7))
	}
	for _, n := range []int{16, 32} {
		within(t, "never run", c.Estimate(n, 0), takes(n), .5)
	}
}

// TestTableComesToTheTruth: whatever a machine takes for what sizes, and however busy it is now and then, the table is
// near that for all sizes up to the largest that are run, alone and beside another.
func TestTableComesToTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.IntRange(1, 64).Draw(t, "rows")
		fixed := rapid.Float64Range(1e4, 1e7).Draw(t, "fixed")
		row := fixed * rapid.SampledFrom([]float64{0, .01, .1, 1}).Draw(t, "row")
		beside := rapid.Float64Range(1, 2.2).Draw(t, "beside")
		truth := func(n, k int) float64 { return (fixed + row*float64(n)) * (1 + float64(k)*(beside-1)) }
		c := NewCost(rows, 2)
		swept := rapid.Float64Range(.05, 1).Draw(t, "swept") // of the truth: with shorter sequences
		for n, last := 1, rapid.IntRange(0, rows).Draw(t, "swept to"); n <= last; n *= 2 {
			c.Seed(n, 0, time.Duration(swept*truth(n, 0)))
		}
		if rapid.Bool().Draw(t, "swept beside") {
			c.Seed(1, 1, time.Duration(swept*truth(1, 1)))
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, rows), 1, 5).Draw(t, "sizes")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for i := range 3000 {
			n, k := sizes[rng.IntN(len(sizes))], i%2
			d := truth(n, k) * (1 + .1*rng.Float64())
			if rng.IntN(50) == 0 {
				d *= 1 + 100*rng.Float64()
			}
			c.Observe(n, float64(k), time.Duration(d))
		}
		for _, n := range sizes {
			for k := range 2 {
				if est, want := c.estimate(n, k), truth(n, k); est < want/1.7 || est > want*1.7 {
					t.Errorf("%d rows beside %d: %v, and it is %v", n, k, time.Duration(est), time.Duration(want))
				}
			}
		}
		// What was never run lies between those that were, or is an extrapolation.
		least, most := slices.Min(sizes), slices.Max(sizes)
		for n := 1; n <= rows; n++ {
			for k := range 2 {
				low, high := truth(least, k)/3*min(1, float64(n)/float64(least)), truth(most, k)*3*max(1, float64(n)/float64(most))
				if est := c.estimate(n, k); est < low || est > high {
					t.Errorf("%d rows beside %d, with %v run: %v, expected %v to %v", n, k, sizes, time.Duration(est), time.Duration(low), time.Duration(high))
				}
			}
		}
	})
}

// TestShapesContradict: one table is for all shapes. Where fewer rows of long texts take longer than more rows of short ones,
// or a size is much dearer than the one below, no other cell goes to nothing or beyond all bounds.
func TestShapesContradict(t *testing.T) {
	observe := func(c *Cost, first, second int, takes, takesSecond time.Duration) {
		for range 20_000 {
			c.Observe(first, 0, takes)
			c.Observe(second, 0, takesSecond)
		}
	}
	for _, first := range []int{12, 15} {
		c := seeded(16, linear(20*millisecond, 0))
		for range 40 {
			c.Observe(8, 0, 20*millisecond)
		}
		observe(c, first, 16, 10*millisecond, 40*millisecond)
		if est := c.Estimate(8, 0); est < 5*millisecond || est > 40*millisecond {
			t.Errorf("with %d rows in 10 ms and 16 in 40: 8 rows take %v", first, est)
		}
	}
	c := seeded(64, linear(20*millisecond, 0))
	for range 40 {
		c.Observe(32, 0, 40*millisecond)
	}
	observe(c, 16, 17, 20*millisecond, 40*millisecond)
	if est := c.Estimate(32, 0); est > 80*millisecond {
		t.Errorf("with 16 rows in 20 ms and 17 in 40: 32 rows take %v", est)
	}
}
