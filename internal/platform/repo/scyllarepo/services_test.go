//go:build services

package scyllarepo

import (
	"testing"

	"sluice/internal/platform/cql/cqltest"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/repotest"
)

func openAt(tb testing.TB, address string, cfg Config) *Driver {
	tb.Helper()
	d, err := Open(tb.Context(), address, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

// url returns the URL that a driver was opened with.
func (d *Driver) url(tb testing.TB) string { tb.Helper(); return cqltest.URL(tb, d.session.Keyspace) }

func suite() repotest.Suite {
	again := func(tb testing.TB, d repo.Driver) repo.Driver { return openAt(tb, d.(*Driver).url(tb), Config{}) }
	return repotest.Suite{
		Open:   func(tb testing.TB) repo.Driver { return openAt(tb, cqltest.Fresh(tb), Config{}) },
		Reopen: again,
		Second: again,
	}
}

func TestContract(t *testing.T) { suite().Run(t) }

func BenchmarkDriver(b *testing.B) {
	repotest.Benchmark(b, func(tb testing.TB) repo.Driver { return suite().Open(tb) })
}
