package sqliterepo

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/repotest"
	"sluice/internal/platform/sqlite"
)

func BenchmarkDriver(b *testing.B) { repotest.Benchmark(b, open) }

// BenchmarkGroupCommit compares 64 units of work at a time that share commits
// with as many that have a transaction each, on the same file system, and with
// what an fsync alone takes there.
func BenchmarkGroupCommit(b *testing.B) {
	rate := map[string]float64{}
	for _, how := range []struct {
		name  string
		batch int
	}{{"one_each", 1}, {"shared", 0}} {
		b.Run(how.name, func(b *testing.B) {
			metrics := prometheus.NewRegistry()
			d := openPath(b, filepath.Join(b.TempDir(), "store.db"), Config{Batch: how.batch, Metrics: metrics})
			if err := d.Migrate(b.Context(), repotest.Schemas()); err != nil {
				b.Fatal(err)
			}
			store := repo.New(d, repo.Config{})
			scope := repo.Scope{Tenant: "ten_bench", Actor: "usr_1"}
			repotest.Spread(b, 64, func() error { return store.Do(b.Context(), scope, repotest.Work) })
			rate[how.name] = float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(mean(b, metrics, "sluice_sqlite_commit_changesets"), "units/commit")
		})
	}
	if rate["one_each"] > 0 {
		b.Logf("shared commits are %.1f times as fast as one transaction each: %.0f and %.0f units/s", rate["shared"]/rate["one_each"], rate["shared"], rate["one_each"])
	}
	b.Run("fsync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		page := make([]byte, 4*sqlite.PageSize)
		start := time.Now()
		for b.Loop() {
			if _, err := f.Write(page); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "fsyncs/s")
	})
}

// mean returns the mean of what a histogram has observed.
func mean(b *testing.B, r *prometheus.Registry, name string) float64 {
	families, err := r.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if h := f.GetMetric()[0].GetHistogram(); f.GetName() == name && h.GetSampleCount() > 0 {
			return h.GetSampleSum() / float64(h.GetSampleCount())
		}
	}
	b.Fatalf("nothing was observed as %s", name)
	return 0
}
