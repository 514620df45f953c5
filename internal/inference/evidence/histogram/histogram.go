// Package histogram counts durations in buckets that are the same everywhere,
// so that what many nodes and many minutes have counted can be added up, in Go
// or in SQL, and gives quantiles of all of it.
//
// A bucket holds the durations that agree in their highest seven bits, as in an
// HDR histogram: it is at most 1/64 of its least duration wide, so a quantile
// is off by at most 0.8 percent. Bucket numbers come of integer arithmetic
// alone. Sketches that adapt to what they see (t-digest, KLL) do not merge to
// the same thing in every order; DDSketch does, but numbers its buckets with
// logarithms in floating point, which processors round differently, and its
// library stores them in a form of its own, which no database can add up.
package histogram

import (
	"encoding/binary"
	"encoding/json"
	"iter"
	"math"
	"math/bits"
	"time"

	"sluice/internal/platform/fault"
)

// Size is how many buckets there are, numbered from 0: durations below 128 ns have one
// each, and each doubling from there to the longest time.Duration has 64.
const Size = 128 + 64*(63-7)

// Histogram counts durations. The zero value is empty and ready for use. It
// takes up to 29 KB, and 18 KB if nothing takes an hour. It is not safe for
// concurrent use.
type Histogram struct {
	counts []int64 // up to the highest bucket in use
	n      int64
}

// Bucket returns the number of the bucket that a duration, zero if negative,
// belongs to. It never changes: numbers are stored.
func Bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(bits.Len64(v)-7, 0)
	return shift<<6 + int(v>>shift)
}

// Bounds returns the least and the greatest duration of a bucket.
func Bounds(bucket int) (low, high time.Duration) {
	shift := max(bucket>>6-1, 0)
	v := time.Duration(bucket - shift<<6)
	return v << shift, (v+1)<<shift - 1
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) { h.add(Bucket(d), 1) }

func (h *Histogram) add(bucket int, n int64) {
	if bucket >= len(h.counts) {
		h.counts = append(h.counts, make([]int64, bucket+1-len(h.counts))...)
	}
	h.counts[bucket] += n
	h.n += n
}

// AddBucket counts n durations of a bucket, as a store returns them.
func (h *Histogram) AddBucket(bucket int, n int64) error {
	if bucket < 0 || bucket >= Size || n < 0 || n > math.MaxInt64-h.n {
		return fault.New(fault.Invalid, "the bucket %d with %d durations is none: there are buckets 0 to %d", bucket, n, Size-1).WithCode("histogram_bucket")
	}
	if n > 0 {
		h.add(bucket, n)
	}
	return nil
}

// Merge counts all that another has counted; nil has nothing.
func (h *Histogram) Merge(o *Histogram) {
	for bucket, n := range o.Buckets() {
		h.add(bucket, n)
	}
}

// Count returns how many durations were counted; none by nil.
func (h *Histogram) Count() int64 {
	if h == nil {
		return 0
	}
	return h.n
}

// Buckets yields the buckets that are not empty, from the shortest durations
// on, with their counts.
func (h *Histogram) Buckets() iter.Seq2[int, int64] {
	return func(yield func(int, int64) bool) {
		if h == nil {
			return
		}
		for bucket, n := range h.counts {
			if n > 0 && !yield(bucket, n) {
				return
			}
		}
	}
}

// Rank returns the bounds of the bucket that holds the rank-th shortest
// duration, from 1. Below 1 there is nothing but zero, and beyond the count
// nothing is known: both bounds are the longest duration.
func (h *Histogram) Rank(rank int64) (low, high time.Duration) {
	if rank < 1 {
		return 0, 0
	}
	for bucket, n := range h.Buckets() {
		if rank -= n; rank <= 0 {
			return Bounds(bucket)
		}
	}
	return math.MaxInt64, math.MaxInt64
}

// Quantile returns the q-quantile of the durations, q from 0 to 1, in the
// middle of its bucket; zero where nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	rank := int64(math.Ceil(q * float64(h.n)))
	low, high := h.Rank(min(max(rank, 1), h.n))
	return low + (high-low)/2
}

// MarshalJSON implements json.Marshaler: pairs of bucket and count.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	pairs := [][2]int64{}
	for bucket, n := range h.Buckets() {
		pairs = append(pairs, [2]int64{int64(bucket), n})
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var pairs [][2]int64
	if err := json.Unmarshal(data, &pairs); err != nil {
		return fault.Wrap(fault.Invalid, err, "a histogram is a list of [bucket, count]").WithCode("histogram_malformed")
	}
	*h = Histogram{}
	for _, p := range pairs {
		if p[0] != int64(int(p[0])) {
			return fault.New(fault.Invalid, "there is no bucket %d", p[0]).WithCode("histogram_bucket")
		}
		if err := h.AddBucket(int(p[0]), p[1]); err != nil {
			return err
		}
	}
	return nil
}

// AppendBinary implements encoding.BinaryAppender: for each bucket that is not
// empty the distance from the one before and its count, as unsigned varints.
func (h *Histogram) AppendBinary(b []byte) ([]byte, error) {
	last := 0
	for bucket, n := range h.Buckets() {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(bucket-last)), uint64(n))
		last = bucket
	}
	return b, nil
}

// MergeBinary counts all that was counted in what AppendBinary has written. After
// an error some of it may be counted.
func (h *Histogram) MergeBinary(data []byte) error {
	bucket := 0
	for len(data) > 0 {
		step, n := binary.Uvarint(data)
		count, m := binary.Uvarint(data[max(n, 0):])
		if n <= 0 || m <= 0 || step >= Size || count > math.MaxInt64 {
			return fault.New(fault.Invalid, "a histogram ends in the middle of a bucket, or counts what cannot be").WithCode("histogram_malformed")
		}
		data, bucket = data[n+m:], bucket+int(step)
		if err := h.AddBucket(bucket, int64(count)); err != nil {
			return err
		}
	}
	return nil
}
