package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQuantilesAreClose(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, int64(100*time.Second)), 1, 200).Draw(rt, "values")
		var a, b, all Histogram
		for i, v := range values {
			h := &a
			if i%2 == 1 {
				h = &b
			}
			h.Record(time.Duration(v))
		}
		all.Add(&a)
		all.Add(&b)
		slices.Sort(values)
		if all.Count() != uint64(len(values)) || int64(all.Max()) != values[len(values)-1] {
			rt.Fatalf("count %d, max %d", all.Count(), all.Max())
		}
		q := rapid.Float64Range(0, 1).Draw(rt, "q")
		rank := max(int(math.Ceil(q*float64(len(values))))-1, 0)
		want, got := float64(values[rank]), float64(all.Quantile(q))
		if math.Abs(got-want) > want/128+1 {
			rt.Fatalf("quantile %v is %v, want about %v of %v", q, got, want, values)
		}
	})
}

func TestHistogramTakesAnything(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("the quantile of nothing is 0")
	}
	for _, d := range []time.Duration{-time.Second, 0, 1, math.MaxInt64} {
		h.Record(d)
	}
	if h.Count() != 4 || h.Quantile(0) != 0 {
		t.Errorf("count %d, least %s", h.Count(), h.Quantile(0))
	}
	for i := range numBuckets {
		low, width := bounds(i)
		if bucket(low) != i || bucket(low+width-1) != i {
			t.Fatalf("bucket %d holds %d..%d, which are in %d and %d", i, low, low+width-1, bucket(low), bucket(low+width-1))
		}
	}
}

// Buckets hold everything once, in order, each up to its bound.
func TestBucketsHoldEverything(t *testing.T) {
	var h Histogram
	draw := rand.New(rand.NewPCG(1, 2))
	all := []time.Duration{0, 1, 200 * time.Second}
	for range 5000 {
		all = append(all, time.Duration(math.Exp(draw.Float64()*25)))
	}
	for _, d := range all {
		h.Record(d)
	}
	slices.Sort(all)
	seen, last := uint64(0), time.Duration(-1)
	for most, count := range h.Buckets() {
		seen += count
		if most <= last || count == 0 || all[seen-1] > most || all[seen-count] < last || all[seen-1] < last {
			t.Fatalf("%d up to %s, after %s", count, most, last)
		}
		if last = most; most > 200 && most < 100*time.Second && float64(most)/float64(all[seen-1]) > 1.07 {
			t.Errorf("the bucket up to %s has nothing above %s", most, all[seen-1])
		}
	}
	if seen != h.Count() {
		t.Errorf("%d of %d", seen, h.Count())
	}
}
