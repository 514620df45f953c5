package cql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gocql/gocql"
)

// makeKeyspace makes the keyspace where there is none.
func makeKeyspace(ctx context.Context, at Target, o Options) error {
	session, err := connect(at, o, "")
	if err != nil {
		return err
	}
	defer session.Close()
	var name string
	err = session.Query(`SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?`, at.Keyspace).
		WithContext(ctx).Consistency(gocql.LocalOne).Idempotent(true).Scan(&name)
	if !errors.Is(err, gocql.ErrNotFound) {
		return err
	}
	if !at.create {
		return Misconfigured("the keyspace %s is missing, and its address says create=false: create it, or allow it", at.Keyspace)
	}
	if at.dc == "" {
		err := session.Query(`SELECT data_center FROM system.local WHERE key = 'local'`).WithContext(ctx).Consistency(gocql.LocalOne).Scan(&at.dc)
		if err != nil {
			return err
		}
	}
	text := createKeyspace(at, scyllaVersion(ctx, session))
	if err := session.Query(text).WithContext(ctx).Exec(); err != nil {
		return err
	}
	return session.AwaitSchemaAgreement(ctx)
}

func createKeyspace(at Target, scylla string) string {
	return fmt.Sprintf(`CREATE KEYSPACE IF NOT EXISTS %s WITH replication = {'class': 'NetworkTopologyStrategy', '%s': %d}%s`,
		at.Keyspace, strings.ReplaceAll(at.dc, "'", "''"), at.replication, tablets(scylla))
}

// scyllaVersion returns the version of a ScyllaDB server, nothing of another's:
// those have no such table.
func scyllaVersion(ctx context.Context, session *gocql.Session) string {
	var version string
	err := session.Query(`SELECT version FROM system.versions WHERE key = 'local'`).WithContext(ctx).Consistency(gocql.LocalOne).Scan(&version)
	if err != nil {
		return ""
	}
	return version
}

// tablets returns the option that turns tablets off where the server has them
// but no lightweight transactions in them: from 6.0 and 2024.2 until 2025.4. A
// keyspace cannot be switched later.
func tablets(scylla string) string {
	major, rest, _ := strings.Cut(scylla, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return ""
	}
	has := a >= 6 && a < 2000 || a > 2024 || a == 2024 && b >= 2
	if has && (a < 2025 || a == 2025 && b < 4) {
		return ` AND tablets = {'enabled': false}`
	}
	return ""
}
