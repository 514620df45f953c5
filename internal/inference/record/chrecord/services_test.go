//go:build services

package chrecord

import (
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/recordtest"
)

// stored is a store that knows its address.
type stored struct {
	*Store
	address string
}

// open opens a log in a database of its own on the test server.
func open(t testing.TB) record.Store {
	t.Helper()
	address := os.Getenv("SLUICE_TEST_CLICKHOUSE_URL")
	if address == "" {
		t.Fatal("SLUICE_TEST_CLICKHOUSE_URL is not set: start the servers with `make services`, run the tests with `make test-services`")
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	o, err := clickhouse.ParseDSN(address)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := clickhouse.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if err := admin.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Exec(t.Context(), "DROP DATABASE "+name); _ = admin.Close() })
	u.Path = "/" + name
	return openAt(t, u.String())
}

func openAt(t testing.TB, address string) record.Store {
	t.Helper()
	s, err := Open(t.Context(), address, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &stored{s, address}
}

func TestContract(t *testing.T) {
	recordtest.Suite{Open: open, Second: func(t testing.TB, s record.Store) record.Store { return openAt(t, s.(*stored).address) }}.Run(t)
}

func BenchmarkStore(b *testing.B) { recordtest.Benchmark(b, open) }
