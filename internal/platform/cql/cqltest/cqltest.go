// Package cqltest has what tests of adapters on CQL share: keyspaces of a real cluster,
// and what is asked of their migrations.
package cqltest

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
)

// URL is that of the test cluster, with another keyspace.
func URL(tb testing.TB, keyspace string) string {
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

// Fresh returns the URL of an empty keyspace, which the test's end drops.
func Fresh(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("t%d_%d", time.Now().UnixNano(), keyspaces.Add(1))
	address := URL(tb, name)
	tb.Cleanup(func() {
		at, err := cql.Parse(address)
		if err != nil {
			tb.Fatal(err)
		}
		session, err := cql.Open(context.Background(), at, cql.Options{}) // the test's context is over
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

// Migrations checks that migrations may be executed twice: one that ended half way is.
func Migrations(tb testing.TB, files fs.FS) {
	tb.Helper()
	names, err := fs.Glob(files, "migrations/*.cql")
	if err != nil || len(names) == 0 {
		tb.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			tb.Fatal(err)
		}
		for _, s := range cql.Split(string(text)) {
			if !strings.Contains(s, "IF NOT EXISTS") {
				tb.Errorf("%s: a migration may be executed twice, so every statement says IF NOT EXISTS: %s", name, s)
			}
		}
	}
}
