package recordtest

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"sluice/internal/inference/record"
)

// Lognormal returns a latency as services have them: a median of 5 ms and a long
// tail.
func Lognormal(r *rand.Rand) time.Duration {
	return time.Duration(5 * float64(time.Millisecond) * math.Exp(0.7*r.NormFloat64()))
}

// Traffic returns n entries of three arms, a millisecond's worth of them alike in time.
func Traffic(tenant string, from time.Time, n, perMS int) []*record.Entry {
	r := rand.New(rand.NewPCG(1, uint64(from.UnixNano())))
	list := make([]*record.Entry, n)
	for i := range list {
		e := made(tenant, from, i/perMS)
		total := Lognormal(r)
		e.Latency = record.Latency{Decode: total / 20, Queue: total / 10, Infer: total / 2, Encode: total / 20, Total: total}
		e.Choice = record.Choice{Experiment: "exp", Arm: []string{"champion", "challenger", "other"}[r.IntN(3)]}
		if r.IntN(100) == 0 {
			e.Outcome, e.Code = record.Refused, "queue_full"
		}
		list[i] = e
	}
	return list
}

// Benchmark measures how fast a store appends.
func Benchmark(b *testing.B, open func(testing.TB) record.Store) {
	for _, size := range []int{100, 4096, 20_000} {
		b.Run("append/"+strconv.Itoa(size), func(b *testing.B) {
			store, tenant, from := open(b), someone(), base()
			entries := 0
			var spent time.Duration
			for b.Loop() {
				b.StopTimer()
				list := Traffic(tenant, from, size, 50)
				from = list[len(list)-1].At.Add(time.Millisecond)
				b.StartTimer()
				start := time.Now()
				if err := store.Append(b.Context(), list); err != nil {
					b.Fatal(err)
				}
				spent += time.Since(start)
				entries += size
			}
			b.ReportMetric(float64(entries)/spent.Seconds(), "entries/s")
		})
	}
}
