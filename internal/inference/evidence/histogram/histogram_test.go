package histogram

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// durations are of every length, and long enough lists of like ones.
var durations = rapid.SliceOf(rapid.OneOf(
	rapid.Map(rapid.Int64Range(0, math.MaxInt64), func(n int64) time.Duration { return time.Duration(n) }),
	rapid.Map(rapid.Int64Range(0, 1e9), func(n int64) time.Duration { return time.Duration(n) }),
	rapid.Map(rapid.IntRange(0, 62), func(n int) time.Duration { return 1 << n }),
))

func of(ds []time.Duration) *Histogram {
	h := new(Histogram)
	for _, d := range ds {
		h.Add(d)
	}
	return h
}

func text(t *rapid.T, h *Histogram) string {
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Buckets tile all durations, in order, none wider than 1/64 of its least.
func TestBucketsTile(t *testing.T) {
	next := time.Duration(0)
	for bucket := range Size {
		low, high := Bounds(bucket)
		if low != next || high < low || Bucket(low) != bucket || Bucket(high) != bucket {
			t.Fatalf("bucket %d is [%d, %d], want it to begin at %d", bucket, low, high, next)
		}
		if high-low > low/64 {
			t.Fatalf("bucket %d is [%d, %d]: too wide", bucket, low, high)
		}
		next = high + 1
	}
	if _, high := Bounds(Size - 1); high != math.MaxInt64 || Bucket(-1) != 0 {
		t.Errorf("the last bucket ends at %d", high)
	}
}

// Merging is adding up: in any grouping and order it gives what one histogram
// of everything would have, exactly.
func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := durations.Draw(t, "a"), durations.Draw(t, "b"), durations.Draw(t, "c")
		want := text(t, of(slices.Concat(a, b, c)))
		left, right := of(a), of(b)
		left.Merge(of(b))
		left.Merge(of(c)) // (a+b)+c
		right.Merge(of(c))
		right.Merge(of(a)) // (b+c)+a
		right.Merge(nil)
		right.Merge(new(Histogram))
		if got := text(t, left); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		if got := text(t, right); got != want {
			t.Fatalf("in another order: got %s, want %s", got, want)
		}
		packed, err := of(a).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		unpacked := of(slices.Concat(b, c))
		if err := unpacked.MergeBinary(packed); err != nil || text(t, unpacked) != want {
			t.Fatalf("packed and merged: got %s, %v, want %s", text(t, unpacked), err, want)
		}
		var back Histogram
		if err := json.Unmarshal([]byte(want), &back); err != nil || text(t, &back) != want || back.Count() != left.Count() {
			t.Fatalf("%v: %s came back as %s", err, want, text(t, &back))
		}
	})
}

// A quantile is within 0.8 percent of the true one, and every rank lies in its bucket.
func TestQuantilesAreClose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := durations.Draw(t, "durations")
		h := of(ds)
		if len(ds) == 0 {
			if h.Quantile(0.5) != 0 {
				t.Fatal("nothing has a median")
			}
			return
		}
		slices.Sort(ds)
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		want := ds[max(int(math.Ceil(q*float64(len(ds)))), 1)-1]
		if got := h.Quantile(q); math.Abs(float64(got-want)) > float64(want)/128 {
			t.Fatalf("the %g-quantile of %v is %d, want about %d", q, ds, got, want)
		}
		for i, d := range ds {
			if low, high := h.Rank(int64(i + 1)); d < low || d > high {
				t.Fatalf("rank %d is %d, not in [%d, %d]", i+1, d, low, high)
			}
		}
		if low, high := h.Rank(int64(len(ds) + 1)); low != math.MaxInt64 || high != math.MaxInt64 {
			t.Fatalf("beyond the count: [%d, %d]", low, high)
		}
		if low, high := h.Rank(0); low != 0 || high != 0 {
			t.Fatalf("before the first: [%d, %d]", low, high)
		}
	})
}

func TestBadBucketsAreRefused(t *testing.T) {
	for _, data := range []string{`{}`, `[[1]]x`, `[[-1,1]]`, `[[3712,1]]`, `[[1,-1]]`, `[[1,9223372036854775807],[2,1]]`, `[[1e30,1]]`} {
		var h Histogram
		if err := h.UnmarshalJSON([]byte(data)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", data, err)
		}
	}
}

func FuzzHistogram(f *testing.F) {
	f.Add([]byte(`[[0,1],[3711,2]]`))
	f.Add([]byte(`[[5,1],[5,1]]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h, again Histogram
		if json.Unmarshal(data, &h) != nil {
			return
		}
		out, err := json.Marshal(&h)
		if err != nil || json.Unmarshal(out, &again) != nil || again.Count() != h.Count() || again.Quantile(0.99) != h.Quantile(0.99) {
			t.Fatalf("%s came back as something else: %v", out, err)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	h := of([]time.Duration{time.Hour})
	b.ReportAllocs()
	d := time.Duration(1)
	for b.Loop() {
		h.Add(d)
		d = (d*5 + 3) % time.Hour
	}
}

func BenchmarkQuantile(b *testing.B) {
	h := new(Histogram)
	for i := range 100_000 {
		h.Add(time.Duration(i) * time.Microsecond)
	}
	for b.Loop() {
		h.Quantile(0.99)
	}
}

// No bytes make a histogram panic or count what cannot be.
func FuzzMergeBinary(f *testing.F) {
	packed, _ := of([]time.Duration{1, 1, time.Second, math.MaxInt64}).AppendBinary(nil)
	f.Add(packed)
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		h := new(Histogram)
		err := h.MergeBinary(data)
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, n := range h.Buckets() {
			sum += n
		}
		if sum != h.Count() || sum < 0 {
			t.Fatalf("%d buckets' durations, %d in all", sum, h.Count())
		}
	})
}
