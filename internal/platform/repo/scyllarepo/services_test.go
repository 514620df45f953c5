//go:build services

package scyllarepo

import (
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/repotest"
)

// cluster is the URL of the test cluster, with another keyspace.
func cluster(tb testing.TB, keyspace string) string {
	tb.Helper()
	text := os.Getenv("SLUICE_TEST_CQL_URL")
	if text == "" {
		tb.Fatal("SLUICE_TEST_CQL_URL is not set: run make services")
	}
	u, err := url.Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	u.Path = "/" + keyspace
	q := u.Query()
	q.Set("replication", "1")
	q.Set("timeout", "20s") // the machine does other things, too
	u.RawQuery = q.Encode()
	return u.String()
}

var keyspaces atomic.Int64

// fresh returns the URL of an empty keyspace, which the test's end drops.
func fresh(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("t%d_%d", time.Now().UnixNano(), keyspaces.Add(1))
	address := cluster(tb, name)
	tb.Cleanup(func() {
		at, err := parse(address)
		if err != nil {
			tb.Fatal(err)
		}
		session, err := connect(at, Config{}.withDefaults(), "")
		if err != nil {
			tb.Fatal(err)
		}
		defer session.Close()
		if err := session.Query(`DROP KEYSPACE IF EXISTS ` + name).Consistency(gocql.LocalOne).Exec(); err != nil {
			tb.Errorf("the keyspace %s stays: %v", name, err)
		}
	})
	return address
}

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
func (d *Driver) url(tb testing.TB) string { tb.Helper(); return cluster(tb, d.at.keyspace) }

func suite() repotest.Suite {
	again := func(tb testing.TB, d repo.Driver) repo.Driver { return openAt(tb, d.(*Driver).url(tb), Config{}) }
	return repotest.Suite{
		Open:   func(tb testing.TB) repo.Driver { return openAt(tb, fresh(tb), Config{}) },
		Reopen: again,
		Second: again,
	}
}

func TestContract(t *testing.T) { suite().Run(t) }

func BenchmarkDriver(b *testing.B) {
	repotest.Benchmark(b, func(tb testing.TB) repo.Driver { return suite().Open(tb) })
}
