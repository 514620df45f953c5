package batcher

import (
	"testing"
	"time"
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
