package tensor

import "math"

// Half returns the value of an FP16 element, IEEE 754 binary16.
func Half(x uint16) float64 {
	exponent, fraction := int(x>>10&0x1f), float64(x&0x3ff)
	var v float64
	switch exponent {
	case 0:
		v = math.Ldexp(fraction, -24)
	case 31:
		v = math.Inf(1)
		if fraction != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(fraction+1024, exponent-25)
	}
	if x&0x8000 != 0 {
		v = -v
	}
	return v
}

// Brain returns the value of a BF16 element, the upper half of an FP32.
func Brain(x uint16) float64 { return float64(math.Float32frombits(uint32(x) << 16)) }
