package chrecord

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// bySeries are the columns of a series.
const bySeries = "model, version, experiment, arm, by_rule, shadow, bulk"

const seriesColumns = `tenant String, model LowCardinality(String), version LowCardinality(String), experiment LowCardinality(String), arm LowCardinality(String),
		by_rule Bool, shadow Bool, bulk Bool`

// tables are the form of the database. Days are partitions, which expire as a
// whole. What is added to entries is added to minutes by the server; bucket is the
// number of the histogram's bucket that the total time of a success is in.
var tables = []string{
	`CREATE TABLE IF NOT EXISTS entries (` + seriesColumns + `,
		at DateTime64(3, 'UTC'), id FixedString(16), attempt UInt32, outcome UInt8, code LowCardinality(String), rows Int64, batch_rows Int64,
		decode Int64, queue Int64, infer Int64, encode Int64, total Int64, bucket UInt16, client_ref String, input_digest FixedString(32), output_digest FixedString(32), steps UInt32,
		INDEX by_id id TYPE bloom_filter, INDEX by_ref client_ref TYPE bloom_filter)
	ENGINE = ReplacingMergeTree PARTITION BY toYYYYMMDD(at) ORDER BY (tenant, at, id, attempt) TTL toDateTime(at) + INTERVAL KEEP SECOND`,
	`ALTER TABLE entries ADD COLUMN IF NOT EXISTS steps UInt32`, // of a table that was made before
	`CREATE TABLE IF NOT EXISTS minutes (` + seriesColumns + `,
		minute DateTime('UTC'), succeeded SimpleAggregateFunction(sum, Int64), failed SimpleAggregateFunction(sum, Int64), refused SimpleAggregateFunction(sum, Int64),
		invalid SimpleAggregateFunction(sum, Int64), cancelled SimpleAggregateFunction(sum, Int64), rows SimpleAggregateFunction(sum, Int64),
		latency SimpleAggregateFunction(sumMap, Map(UInt16, Int64)))
	ENGINE = AggregatingMergeTree PARTITION BY toYYYYMMDD(minute) ORDER BY (tenant, model, minute, version, experiment, arm, by_rule, shadow, bulk) TTL minute + INTERVAL STATISTICS SECOND`,
	`CREATE MATERIALIZED VIEW IF NOT EXISTS minutes_of_entries TO minutes AS
	SELECT tenant, ` + bySeries + `, toDateTime(toStartOfMinute(at), 'UTC') AS minute,
		toInt64(countIf(outcome = 0)) AS succeeded, toInt64(countIf(outcome = 1)) AS failed, toInt64(countIf(outcome = 2)) AS refused,
		toInt64(countIf(outcome = 3)) AS invalid, toInt64(countIf(outcome = 4)) AS cancelled, sumIf(e.rows, outcome = 0) AS rows,
		sumMap(if(outcome = 0, map(bucket, toInt64(1)), CAST(map(), 'Map(UInt16, Int64)'))) AS latency
	FROM entries AS e GROUP BY tenant, ` + bySeries + `, minute`,
	`CREATE TABLE IF NOT EXISTS contents (tenant String, at DateTime64(3, 'UTC'), id FixedString(16), attempt UInt32, until DateTime('UTC'), content String CODEC(ZSTD))
	ENGINE = ReplacingMergeTree PARTITION BY toYYYYMMDD(until) ORDER BY (tenant, at, id, attempt) TTL until`,
	`CREATE TABLE IF NOT EXISTS shapes (model LowCardinality(String), version LowCardinality(String), experiment LowCardinality(String), arm LowCardinality(String), by_rule Bool, shadow Bool, bulk Bool,
		minute DateTime('UTC'), name LowCardinality(String), sketch String)
	ENGINE = MergeTree PARTITION BY toYYYYMMDD(minute) ORDER BY (model, experiment, minute) TTL minute + INTERVAL STATISTICS SECOND`,
	`CREATE TABLE IF NOT EXISTS labels (` + seriesColumns + `,
		at DateTime64(3, 'UTC'), id FixedString(16), name LowCardinality(String), value String, score Nullable(Float64), observed DateTime64(3, 'UTC'), labelled DateTime64(6, 'UTC'))
	ENGINE = ReplacingMergeTree(labelled) PARTITION BY toYYYYMMDD(at) ORDER BY (tenant, at, id, name) TTL toDateTime(at) + INTERVAL STATISTICS SECOND`,
}

// migrate brings the database into the form that the package knows.
func (s *Store) migrate(ctx context.Context, cfg Config) error {
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
	fill := strings.NewReplacer("KEEP SECOND", seconds(cfg.Keep)+" SECOND", "STATISTICS SECOND", seconds(cfg.KeepStatistics)+" SECOND")
	for _, sql := range tables {
		if err := s.db.Exec(ctx, fill.Replace(sql)); err != nil {
			return translate(err)
		}
	}
	return nil
}
