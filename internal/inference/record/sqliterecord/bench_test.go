package sqliterecord

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/record"
	"sluice/internal/inference/record/recordtest"
)

func BenchmarkStore(b *testing.B) { recordtest.Benchmark(b, open) }

// day fills the rollups of a day of five million predictions in three arms of two
// versions each.
func day(b *testing.B, s *stored, tenant string, from time.Time) {
	random := rand.New(rand.NewPCG(1, 2))
	err := s.write(b.Context(), func() error {
		no, err := s.tenant(tenant)
		if err != nil {
			return err
		}
		const arms, minutes, all = 3, 24 * 60, 5_000_000
		for arm := range arms {
			r := record.Rollup{Series: record.Series{Model: "m", Version: strconv.Itoa(arm), Choice: record.Choice{Experiment: "exp", Arm: strconv.Itoa(arm)}}}
			series, err := s.serial(place{no, r.Series})
			if err != nil {
				return err
			}
			for minute := range minutes {
				r.Start = from.Add(time.Duration(minute) * time.Minute)
				r.Latency = new(histogram.Histogram)
				for range all / arms / minutes {
					r.Latency.Add(recordtest.Lognormal(random))
				}
				r.Outcomes[record.Succeeded], r.Rows = r.Latency.Count(), r.Latency.Count()
				if err := s.add(series, &r); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDay(b *testing.B) {
	s := open(b).(*stored)
	from := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	day(b, s, "acme", from)
	f := record.Filter{Tenant: "acme", Model: "m", From: from, To: from.Add(24 * time.Hour)}
	for b.Loop() {
		got, err := s.Statistics(b.Context(), f, record.Grouping{})
		if err != nil || len(got) != 3 || got[0].Latency.Count() != 5_000_000/3/1440*1440 {
			b.Fatalf("%d arms, %v", len(got), err)
		}
	}
}
