package cql

import (
	"strings"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/fault"
)

func TestParse(t *testing.T) {
	defaults := Target{Hosts: []string{"h"}, Keyspace: "k", replication: 3, create: true, Consistency: gocql.LocalQuorum, Serial: gocql.LocalSerial, timeout: 5 * time.Second}
	with := func(f func(*Target)) Target { t := defaults; f(&t); return t }
	for text, want := range map[string]Target{
		"scylla://h/k":                 defaults,
		"scylla://a:1,b,[::1]:2/k":     with(func(t *Target) { t.Hosts = []string{"a:1", "b", "[::1]:2"} }),
		"scylla://u:p%40%2F@h/k":       with(func(t *Target) { t.user, t.password = "u", "p@/" }),
		"scylla://h/k?replication=1":   with(func(t *Target) { t.replication = 1 }),
		"scylla://h/k?dc=eu&create=no": {},
		"scylla://h/k?dc=eu&create=0":  with(func(t *Target) { t.dc, t.create = "eu", false }),
		"scylla://h/k?consistency=quorum&timeout=1s": with(func(t *Target) {
			t.Consistency, t.Serial, t.timeout = gocql.Quorum, gocql.Serial, time.Second
		}),
		"scylla://h/k?ca=/ca&cert=/c&key=/k": with(func(t *Target) { t.tls, t.ca, t.cert, t.key = true, "/ca", "/c", "/k" }),
		"scylla://h/k?tls=true":              with(func(t *Target) { t.tls = true }),

		"":                              {},
		"cassandra://h/k":               {},
		"scylla:///k":                   {},
		"scylla://h,/k":                 {},
		"scylla://h":                    {},
		"scylla://h/K":                  {},
		"scylla://h/k;drop":             {},
		"scylla://h/k?replication=0":    {},
		"scylla://h/k?consistency=one":  {},
		"scylla://h/k?timeout=-1s":      {},
		"scylla://h/k?cert=/c":          {},
		"scylla://h/k?colour=red":       {},
		"scylla://u:secret%zz@h/k":      {},
		"scylla://u:secret@h/k?tls=may": {},
	} {
		got, err := Parse(text)
		if want.Keyspace == "" {
			if fault.CodeOf(err) != "invalid_store_url" || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v, expected code invalid_store_url", text, err)
			}
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Target{})); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("scylla://u:p@h:1,i/k?replication=3&tls=1")
	f.Fuzz(func(t *testing.T, text string) {
		at, err := Parse(text)
		if err == nil && (len(at.Hosts) == 0 || !keyspaceName.MatchString(at.Keyspace)) {
			t.Errorf("%q became %+v", text, at)
		}
	})
}

func TestTablets(t *testing.T) {
	for version, off := range map[string]bool{
		"": false, "5.4.1": false, "6.0.0": true, "6.2.3-0.20250119": true, "2024.1.9": false, "2024.2.0": true, "2025.1.2": true,
		"2025.3.9": true, "2025.4.0": false, "2026.1.0-rc1": false, "odd": false,
	} {
		if got := tablets(version) != ""; got != off {
			t.Errorf("version %q: tablets are turned off: %t, expected %t", version, got, off)
		}
	}
	at := Target{Keyspace: "k", dc: "it's", replication: 3}
	want := `CREATE KEYSPACE IF NOT EXISTS k WITH replication = {'class': 'NetworkTopologyStrategy', 'it''s': 3} AND tablets = {'enabled': false}`
	if got := createKeyspace(at, "6.2"); got != want {
		t.Errorf("got %s", got)
	}
}
