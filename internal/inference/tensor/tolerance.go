package tensor

// Tolerance returns by how much two floating-point values x and y of a datatype may
// differ, |x-y| <= absolute + relative*|x|, for another order of summation to
// explain it: in a batch of another size, or on another processor. It is 0 for all
// other datatypes.
func Tolerance(d Datatype) (absolute, relative float64) {
	switch d {
	case FP64:
		return 1e-9, 1e-7
	case FP32:
		return 1e-4, 1e-3
	case FP16:
		return 1e-2, 1e-2
	case BF16:
		return 5e-2, 5e-2
	}
	return 0, 0
}
