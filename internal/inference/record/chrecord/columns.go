package chrecord

import (
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/record"
)

// column is one of entries: its name and type, and what it has of each entry, as a slice
// of what the driver takes for the type.
type column struct {
	name, kind string
	of         func([]*record.Entry) any
}

func each[T any](of func(*record.Entry) T) func([]*record.Entry) any {
	return func(entries []*record.Entry) any {
		out := make([]T, len(entries))
		for i, e := range entries {
			out[i] = of(e)
		}
		return out
	}
}

const lowCardinality = "LowCardinality(String)"

// entryColumns are the columns of entries, as tables has them.
var entryColumns = []column{
	{"tenant", "String", each(func(e *record.Entry) string { return e.Tenant })},
	{"model", lowCardinality, each(func(e *record.Entry) string { return e.Model })},
	{"version", lowCardinality, each(func(e *record.Entry) string { return e.Version })},
	{"experiment", lowCardinality, each(func(e *record.Entry) string { return e.Experiment })},
	{"arm", lowCardinality, each(func(e *record.Entry) string { return e.Arm })},
	{"by_rule", "Bool", each(func(e *record.Entry) bool { return e.ByRule })},
	{"shadow", "Bool", each(func(e *record.Entry) bool { return e.Shadow })},
	{"bulk", "Bool", each(func(e *record.Entry) bool { return e.Bulk })},
	{"at", "DateTime64(3, 'UTC')", each(func(e *record.Entry) time.Time { return e.At })},
	{"id", "FixedString(16)", each(func(e *record.Entry) string { return string(e.ID[:]) })},
	{"attempt", "UInt32", each(func(e *record.Entry) uint32 { return uint32(e.Attempt) })},
	{"outcome", "UInt8", each(func(e *record.Entry) uint8 { return uint8(e.Outcome) })},
	{"code", lowCardinality, each(func(e *record.Entry) string { return e.Code })},
	{"rows", "Int64", each(func(e *record.Entry) int64 { return int64(e.Rows) })},
	{"batch_rows", "Int64", each(func(e *record.Entry) int64 { return int64(e.BatchRows) })},
	{"decode", "Int64", each(func(e *record.Entry) int64 { return int64(e.Latency.Decode) })},
	{"queue", "Int64", each(func(e *record.Entry) int64 { return int64(e.Latency.Queue) })},
	{"infer", "Int64", each(func(e *record.Entry) int64 { return int64(e.Latency.Infer) })},
	{"encode", "Int64", each(func(e *record.Entry) int64 { return int64(e.Latency.Encode) })},
	{"total", "Int64", each(func(e *record.Entry) int64 { return int64(e.Latency.Total) })},
	{"bucket", "UInt16", each(func(e *record.Entry) uint16 { return uint16(histogram.Bucket(e.Latency.Total)) })},
	{"client_ref", "String", each(func(e *record.Entry) string { return e.ClientRef })},
	{"input_digest", "FixedString(32)", each(func(e *record.Entry) string { return string(e.InputDigest[:]) })},
	{"output_digest", "FixedString(32)", each(func(e *record.Entry) string { return string(e.OutputDigest[:]) })},
	{"steps", "UInt32", each(func(e *record.Entry) uint32 { return uint32(e.Steps) })},
}

// insertEntries adds to these columns, and entryTypes are what they are of.
var insertEntries, entryTypes = insertion()

func insertion() (sql string, types []clickhouse.ColumnNameAndType) {
	names := make([]string, len(entryColumns))
	for i, c := range entryColumns {
		names[i], types = c.name, append(types, clickhouse.ColumnNameAndType{Name: c.name, Type: c.kind})
	}
	return "INSERT INTO entries (" + strings.Join(names, ", ") + ")", types
}
