package tensor

import (
	"math"
	"testing"
)

// Each magnitude is greater than the one before, and some are known.
func TestSmallFloats(t *testing.T) {
	for name, c := range map[string]struct {
		value    func(uint16) float64
		infinite uint16
		known    map[uint16]float64
	}{
		"FP16": {Half, 0x7c00, map[uint16]float64{0: 0, 1: math.Ldexp(1, -24), 0x03ff: math.Ldexp(1023, -24), 0x0400: math.Ldexp(1, -14), 0x3c00: 1, 0x3555: 0.333251953125, 0x7bff: 65504}},
		"BF16": {Brain, 0x7f80, map[uint16]float64{0: 0, 1: math.Ldexp(1, -133), 0x3f80: 1, 0x4049: 3.140625, 0x7f7f: math.Ldexp(255, 120)}},
	} {
		for x, want := range c.known {
			if got := c.value(x); got != want {
				t.Errorf("%s %#x is %g, want %g", name, x, got, want)
			}
		}
		for x := uint16(1); x < 0x8000; x++ {
			v := c.value(x)
			switch {
			case x > c.infinite && !math.IsNaN(v), x == c.infinite && !math.IsInf(v, 1), x < c.infinite && v <= c.value(x-1):
				t.Fatalf("%s %#x is %g", name, x, v)
			case x <= c.infinite && c.value(x|0x8000) != -v:
				t.Fatalf("%s %#x is %g, not the negative of %g", name, x|0x8000, c.value(x|0x8000), v)
			}
		}
	}
}
