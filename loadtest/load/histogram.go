package load

import (
	"iter"
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
	low    int // the first bucket that has any, if any has
	max    time.Duration
}

// Record counts one duration; negative ones count as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	at := bucket(uint64(d))
	if h.n == 0 || at < h.low {
		h.low = at
	}
	h.counts[at]++
	h.n++
	h.max = max(h.max, d)
}

// Add counts everything that o counted.
func (h *Histogram) Add(o *Histogram) {
	if o.n == 0 {
		return
	}
	if h.n == 0 || o.low < h.low {
		h.low = o.low
	}
	for i := o.low; i <= bucket(uint64(o.max)); i++ { // a few of thousands
		h.counts[i] += o.counts[i]
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
	for i := h.low; i < numBuckets; i++ {
		c := h.counts[i]
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

// Beside returns the time that a share q of what was counted, and of so many that are later than all of it, does not
// exceed. Where it lies among these, it is the greatest that was counted, and beyond.
func (h *Histogram) Beside(later int, q float64) (at time.Duration, beyond bool) {
	measured := float64(h.n)
	rank := q * (measured + float64(later))
	switch {
	case rank > measured:
		return h.max, true
	case later == 0:
		return h.Quantile(q), false
	}
	return h.Quantile(rank / measured), false
}

// Buckets yields what was counted in coarser buckets, sixteen for each power of two: a duration that none in it exceeds,
// and how many there are, in ascending order and without empty ones.
func (h *Histogram) Buckets() iter.Seq2[time.Duration, uint64] {
	const merged = 1 << (subBits - 4)
	return func(yield func(time.Duration, uint64) bool) {
		for i := 0; i < numBuckets; i += merged {
			count := uint64(0)
			for _, c := range h.counts[i : i+merged] {
				count += uint64(c)
			}
			most := h.max
			if low, _ := bounds(i + merged); i+merged < numBuckets {
				most = min(most, time.Duration(low)) // #nosec G115 -- at most 2^maxOctave
			}
			if count > 0 && !yield(most, count) {
				return
			}
		}
	}
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
