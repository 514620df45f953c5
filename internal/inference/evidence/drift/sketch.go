package drift

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"sluice/internal/platform/fault"
)

// MaxBuckets is how many buckets a Sketch has at most.
const MaxBuckets = 512

// Sketch counts numbers of which nothing is known before: in buckets that are as narrow
// as MaxBuckets of them allow. Sketches merge to that of all their numbers, in whatever
// order. The zero value has none.
//
// A bucket holds the floating-point numbers that agree in their leading bits, so its
// width is relative: at most a 4096th of a value as long as the values are few, and
// twice that each time that they become too many.
type Sketch struct {
	level   uint8 // bits that were given up
	missing int64 // NaN
	samples int64
	counts  map[uint32]int64
}

// End ends a sample: the numbers since the last one are of the same prediction, say, and
// depend on each other.
func (s *Sketch) End() { s.samples++ }

// Samples returns how many samples have ended; 0 where nobody has counted them.
func (s *Sketch) Samples() int64 {
	if s == nil {
		return 0
	}
	return s.samples
}

// leading is how many bits of a number tell its bucket at level 0: sign, exponent and 12
// bits of the fraction.
const leading = 24

// bucket is the bucket of a number at level 0. Buckets are in the order of their numbers.
func bucket(x float64) uint32 {
	if x == 0 {
		x = 0 // as is -0
	}
	b := math.Float64bits(x)
	if b>>63 == 0 {
		b |= 1 << 63
	} else {
		b = ^b
	}
	return uint32(b >> (64 - leading))
}

// Add counts a number.
func (s *Sketch) Add(x float64) {
	if math.IsNaN(x) {
		s.missing++
		return
	}
	s.count(bucket(x)>>s.level, 1)
}

func (s *Sketch) count(bucket uint32, n int64) {
	if s.counts == nil {
		s.counts = map[uint32]int64{}
	}
	s.counts[bucket] += n
	for len(s.counts) > MaxBuckets {
		s.coarsen(s.level + 1)
	}
}

// coarsen gives up bits until a level.
func (s *Sketch) coarsen(level uint8) {
	if level <= s.level {
		return
	}
	by := level - s.level
	coarse := make(map[uint32]int64, len(s.counts))
	for b, n := range s.counts {
		coarse[b>>by] += n
	}
	s.level, s.counts = level, coarse
}

// Merge counts all of another's numbers.
func (s *Sketch) Merge(o *Sketch) {
	if o == nil {
		return
	}
	s.coarsen(o.level)
	s.missing += o.missing
	s.samples += o.samples
	for b, n := range o.counts {
		s.count(b>>(s.level-o.level), n)
	}
}

// Total returns how many numbers were counted, those that are missing too.
func (s *Sketch) Total() int64 {
	if s == nil {
		return 0
	}
	n := s.missing
	for _, k := range s.counts {
		n += k
	}
	return n
}

// sketchBins is how many bins the index of two sketches has.
const sketchBins = 10

// CompareSketches returns how far a window is from a reference, with the index over ten
// bins that hold about equally many of the reference's numbers each. Where either has
// fewer than MinCount numbers there is no answer yet, which is an error with the code
// drift_too_few.
func CompareSketches(reference, window *Sketch) (Distance, error) {
	d := Distance{Reference: reference.Total(), Window: window.Total()}
	if min(d.Reference, d.Window) < MinCount {
		return d, fault.New(fault.Conflict, "the reference has %d observations and the window %d, at least %d are needed of each", d.Reference, d.Window, MinCount).WithCode("drift_too_few")
	}
	var a, b Sketch
	a.Merge(reference)
	b.Merge(window)
	a.coarsen(b.level)
	b.coarsen(a.level)
	all := slices.Collect(maps.Keys(a.counts))
	all = slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(all, maps.Keys(b.counts)))))
	n := d.Reference - a.missing
	coarse := [2]counts{}
	fine := [2]counts{make(counts, len(all)), make(counts, len(all))}
	below, bin := int64(0), -1
	for i, k := range all {
		// A bin begins where the reference has had its share of the bins before, and with
		// what is below or above all of it.
		if next := int(below * sketchBins / max(n, 1)); next > bin || bin < 0 {
			bin = next
			coarse[0], coarse[1] = append(coarse[0], 0), append(coarse[1], 0)
		}
		last := len(coarse[0]) - 1
		fine[0][i], fine[1][i] = a.counts[k], b.counts[k]
		coarse[0][last] += a.counts[k]
		coarse[1][last] += b.counts[k]
		below += a.counts[k]
	}
	coarse[0], coarse[1] = append(coarse[0], a.missing), append(coarse[1], b.missing)
	d.PSI, d.Noise = psi(coarse[0], coarse[1])
	d.ReferenceSamples, d.WindowSamples = reference.Samples(), window.Samples()
	d.MaxNoise = d.Noise * harmonic(d.Reference, d.Window) / harmonic(min(d.Reference, d.ReferenceSamples), min(d.Window, d.WindowSamples))
	d.JS = jensenShannon(coarse[0], coarse[1])
	d.KS, d.KSP = kolmogorovSmirnov(fine[0], fine[1])
	return d, nil
}

// harmonic is the size of one group that chance moves as much as the difference of two.
func harmonic(n, m int64) float64 {
	n, m = max(n, 1), max(m, 1)
	return float64(n) * float64(m) / float64(n+m)
}

// sampled marks the level of a sketch whose samples follow: earlier forms have none.
const sampled = 0x80

// MarshalBinary implements encoding.BinaryMarshaler.
func (s *Sketch) MarshalBinary() ([]byte, error) {
	b := []byte{s.level}
	if s.samples > 0 {
		b = binary.AppendUvarint([]byte{s.level | sampled}, uint64(s.samples))
	}
	b = binary.AppendUvarint(b, uint64(s.missing))
	before := uint32(0)
	for _, k := range slices.Sorted(maps.Keys(s.counts)) {
		b = binary.AppendUvarint(b, uint64(k-before))
		b = binary.AppendUvarint(b, uint64(s.counts[k]))
		before = k
	}
	return b, nil
}

// MarshalText implements encoding.TextMarshaler: the bytes in base64.
func (s *Sketch) MarshalText() ([]byte, error) {
	b, err := s.MarshalBinary()
	return base64.StdEncoding.AppendEncode(nil, b), err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sketch) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return errSketch
	}
	return s.UnmarshalBinary(b)
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (s *Sketch) UnmarshalBinary(b []byte) error {
	if len(b) == 0 || b[0]&^sampled > leading {
		return errSketch
	}
	out, rest := Sketch{level: b[0] &^ sampled, counts: map[uint32]int64{}}, b[1:]
	number := func(most uint64) (n uint64, ok bool) {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > most {
			return 0, false
		}
		rest = rest[size:]
		return n, true
	}
	if b[0]&sampled != 0 {
		n, ok := number(math.MaxInt64 / 2)
		if !ok || n == 0 {
			return errSketch
		}
		out.samples = int64(n)
	}
	missing, ok := number(math.MaxInt64 / 2)
	out.missing = int64(missing)
	for k := uint64(0); ok && len(rest) > 0; {
		var step, n uint64
		if step, ok = number(1 << leading); !ok {
			break
		}
		first := len(out.counts) == 0
		k += step
		if n, ok = number(math.MaxInt64 / 2); !ok || n == 0 || k >= 1<<(leading-out.level) || step == 0 && !first || len(out.counts) == MaxBuckets {
			return errSketch
		}
		out.counts[uint32(k)] = int64(n)
	}
	if !ok {
		return errSketch
	}
	*s = out
	return nil
}

var errSketch = fault.New(fault.Invalid, "what was counted of a window cannot be read").WithCode("drift_counts")
