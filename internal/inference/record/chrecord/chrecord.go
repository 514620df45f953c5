// Package chrecord keeps the prediction log in ClickHouse, for many nodes: entries
// in partitions of a day, and what each minute comes to in a materialised view.
//
// An entry that is appended again is recognised before it is written, so that the
// minutes count it once. Statistics are sums that the server makes of the minutes.
// What is old expires by the tables' TTL, and by whole days.
//
// Limits: two processes that append the same entry at the same moment count it
// twice in the minutes; no two do, since an attempt is one process's. An insertion
// into a partition, and what the view makes of it, are two steps: a server that dies
// between them leaves the minute short.
package chrecord

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
)

// Config holds what a Store is given.
type Config struct {
	Keep           time.Duration // of entries; default 7 days
	KeepStatistics time.Duration // of minutes and labels; default 400 days
}

// Store is a prediction log in ClickHouse.
type Store struct{ db driver.Conn }

var _ record.Store = (*Store)(nil)

// Open opens the log in a database, and makes what it lacks. The address is
// clickhouse://[user:password@]host:port/database for the native protocol, or the
// same with http or https.
func Open(ctx context.Context, address string, cfg Config) (*Store, error) {
	o, err := clickhouse.ParseDSN(address)
	if err != nil || o.Auth.Database == "" {
		return nil, fault.New(fault.Invalid, "the address of the prediction log is not clickhouse://[user:password@]host:port/database, or the same with http or https").WithCode("invalid_store_address")
	}
	if cfg.Keep <= 0 {
		cfg.Keep = 7 * 24 * time.Hour
	}
	if cfg.KeepStatistics <= 0 {
		cfg.KeepStatistics = 400 * 24 * time.Hour
	}
	db, err := clickhouse.Open(o)
	if err != nil {
		return nil, translate(err)
	}
	s := &Store{db}
	if err := s.migrate(ctx, cfg); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close implements record.Store.
func (s *Store) Close() error { return s.db.Close() }

// Ping implements record.Store.
func (s *Store) Ping(ctx context.Context) error { return translate(s.db.Ping(ctx)) }

// translate classifies an error. What the server says of a statement is a defect;
// all else may pass.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if e, ok := errors.AsType[*clickhouse.Exception](err); ok {
		return fault.Wrap(fault.Internal, err, "ClickHouse refused a statement with code %d", e.Code).WithCode("store_failed")
	}
	return fault.Wrap(fault.Unavailable, err, "ClickHouse cannot be reached").WithCode("store_unavailable").WithRetryAfter(time.Second)
}

// literal is a text as an expression that has none of it in clear, whatever its
// bytes are.
func literal(s string) string { return "unhex('" + hex.EncodeToString([]byte(s)) + "')" }

// idLiteral is an id as an expression.
func idLiteral(id record.ID) string {
	return "toFixedString(unhex('" + hex.EncodeToString(id[:]) + "'), 16)"
}

func timeLiteral(at time.Time) string {
	return "toDateTime64('" + at.UTC().Format("2006-01-02 15:04:05.000") + "', 3, 'UTC')"
}

// rows runs a query and hands each row to visit.
func (s *Store) rows(ctx context.Context, sql string, visit func(driver.Rows) error) error {
	rows, err := s.db.Query(ctx, sql)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := visit(rows); err != nil {
			if _, ok := errors.AsType[*fault.Error](err); ok {
				return err
			}
			return translate(err)
		}
	}
	return translate(rows.Err())
}

// Expire implements record.Store: it drops the days that lie before the times.
func (s *Store) Expire(ctx context.Context, entries, statistics time.Time) error {
	for _, t := range []struct {
		name   string
		before time.Time
	}{{"entries", entries}, {"labels", entries}, {"minutes", statistics}, {"shapes", statistics}, {"contents", time.Now()}} {
		var days []string
		err := s.rows(ctx, "SELECT DISTINCT partition FROM system.parts WHERE database = currentDatabase() AND active AND table = '"+t.name+"' AND partition < '"+t.before.UTC().Format("20060102")+"'", func(r driver.Rows) error {
			var day string
			defer func() { days = append(days, day) }()
			return r.Scan(&day)
		})
		if err != nil {
			return err
		}
		for _, day := range days {
			if err := s.db.Exec(ctx, "ALTER TABLE "+t.name+" DROP PARTITION "+strings.Trim(day, "'")); err != nil {
				return translate(err)
			}
		}
	}
	return nil
}
