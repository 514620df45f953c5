package load

import (
	"math/bits"
	"time"
)

// Each power of two of nanoseconds is divided into 2^subBits buckets, so a
// quantile is off by less than 1/128 of its value.
const (
	subBits    = 7
	maxOctave  = 37 // 2^37 ns are 137 s; longer times count as that
	numBuckets = (maxOctave - subBits + 1) << subBits
)

// Histogram counts durations in logarithmic buckets of constant relative
// width. The zero value is empty. It has one writer.
type Histogram struct {
	counts [numBuckets]uint32
	n      uint64
	max    time.Duration
}

// Record counts one duration; negative ones count as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.max = max(h.max, d)
}

// Add counts everything that o counted.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Max returns the longest duration recorded.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share q (0 to 1) of all recorded ones
// does not exceed, 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := q * float64(h.n)
	seen := 0.0
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		if seen+float64(c) >= rank {
			low, width := bounds(i)
			inside := (rank - seen) / float64(c)
			return min(time.Duration(float64(low)+inside*float64(width)), h.max)
		}
		seen += float64(c)
	}
	return h.max
}

// bucket returns the bucket of a duration: below 2^subBits ns one for each,
// above by the octave and the bits that follow the leading one.
func bucket(ns uint64) int {
	ns = min(ns, 1<<maxOctave-1)
	octave := bits.Len64(ns) - 1 - subBits
	if octave < 0 {
		return int(ns)
	}
	return octave<<subBits + int(ns>>octave)
}

// bounds returns the least duration of a bucket and how many it holds.
func bounds(i int) (low, width uint64) {
	octave := i>>subBits - 1
	if octave < 0 {
		return uint64(i), 1
	}
	return uint64(i-octave<<subBits) << octave, 1 << octave
}
