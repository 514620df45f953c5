package sqliterecord

import (
	"bytes"
	"context"
	"strings"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

// query builds a statement.
type query struct {
	strings.Builder
	sqlite.Statement
}

func (q *query) add(sql string, values ...sqlite.Value) {
	q.WriteString(sql)
	q.Bind(values...)
}

func (q *query) finish() sqlite.Statement {
	q.SQL = q.String()
	return q.Statement
}

// Find implements record.Store.
func (s *Store) Find(ctx context.Context, want record.Query) ([]record.Entry, error) {
	q := new(query)
	q.add(`SELECT at, id, attempt, outcome, code, rows, batch_rows, decode, queue, infer, encode, total, client_ref, input_digest, output_digest, steps,
		model, version, experiment, arm, by_rule, shadow, bulk`)
	if want.Content {
		q.add(", (SELECT content FROM contents c WHERE c.tenant = entries.tenant AND c.at = entries.at AND c.id = entries.id AND c.attempt = entries.attempt), (SELECT until FROM contents c WHERE c.tenant = entries.tenant AND c.at = entries.at AND c.id = entries.id AND c.attempt = entries.attempt)")
	}
	q.add(` FROM entries JOIN series ON series.no = entries.series
		WHERE entries.tenant = (SELECT no FROM tenants WHERE name = ?)`, want.Tenant)
	q.between("at", &want.Filter, time.Time.UnixMilli)
	q.named(&want.Filter)
	q.single(&want)
	if len(want.Outcomes) > 0 {
		q.add(" AND outcome IN (?"+strings.Repeat(", ?", len(want.Outcomes)-1)+")", outcomes(want.Outcomes)...)
	}
	compare, order := "<", "DESC"
	if want.Forward {
		compare, order = ">", "ASC"
	}
	if p := want.After; !p.IsZero() {
		q.add(" AND (at, id, attempt) "+compare+" (?, ?, ?)", p.At.UnixMilli(), p.ID[:], int64(p.Attempt))
	}
	q.add(" ORDER BY at "+order+", id "+order+", attempt "+order+" LIMIT ?", int64(min(max(want.Limit, 1), record.MaxLimit)))
	var found []record.Entry
	err := s.readers.Query(ctx, q.finish(), func(row []sqlite.Value) error {
		found = append(found, entry(want.Tenant, row))
		return nil
	})
	return found, err
}

// Count implements record.Store.
func (s *Store) Count(ctx context.Context, f record.Filter) (n int64, err error) {
	q := new(query)
	q.add("SELECT count(*) FROM entries JOIN series ON series.no = entries.series WHERE entries.tenant = (SELECT no FROM tenants WHERE name = ?)", f.Tenant)
	q.between("at", &f, time.Time.UnixMilli)
	q.named(&f)
	err = s.readers.Query(ctx, q.finish(), func(row []sqlite.Value) error {
		n = (&reader{row}).integer()
		return nil
	})
	return n, err
}

// single chooses by a name of one prediction.
func (q *query) single(want *record.Query) {
	if id := want.ID; !id.IsZero() {
		q.add(` AND (at, id, attempt) IN (SELECT at, id, attempt FROM entries WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND id = ? AND attempt > 0`, want.Tenant, id[:])
		if at, known := id.Time(); known {
			q.add(" UNION SELECT at, id, attempt FROM entries WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND at = ? AND id = ?", want.Tenant, at.UnixMilli(), id[:])
		}
		q.add(")")
	}
	if want.ClientRef != "" {
		q.add(" AND client_ref = ?", want.ClientRef)
	}
}

func outcomes(list []record.Outcome) []sqlite.Value {
	values := make([]sqlite.Value, len(list))
	for i, o := range list {
		values[i] = int64(o)
	}
	return values
}

// between chooses by time, in the unit of the column.
func (q *query) between(column string, f *record.Filter, unit func(time.Time) int64) {
	if !f.From.IsZero() {
		q.add(" AND "+column+" >= ?", unit(f.From))
	}
	if !f.To.IsZero() {
		q.add(" AND "+column+" < ?", unit(f.To))
	}
}

// named chooses by series.
func (q *query) named(f *record.Filter) {
	for _, by := range []struct{ column, value string }{{"model", f.Model}, {"version", f.Version}, {"experiment", f.Experiment}, {"arm", f.Arm}} {
		if by.value != "" {
			q.add(" AND "+by.column+" = ?", by.value)
		}
	}
}

// reader reads a row, column by column.
type reader struct{ row []sqlite.Value }

func (r *reader) next() sqlite.Value {
	v := r.row[0]
	r.row = r.row[1:]
	return v
}

func (r *reader) integer() int64          { n, _ := r.next().(int64); return n }
func (r *reader) flag() bool              { return r.integer() != 0 }
func (r *reader) text() string            { s, _ := r.next().(string); return s }
func (r *reader) bytes() []byte           { b, _ := r.next().([]byte); return b }
func (r *reader) duration() time.Duration { return time.Duration(r.integer()) }
func (r *reader) float() float64          { f, _ := r.next().(float64); return f }
func (r *reader) series() record.Series {
	return record.Series{Model: r.text(), Version: r.text(), Choice: record.Choice{Experiment: r.text(), Arm: r.text(), ByRule: r.flag(), Shadow: r.flag()}, Bulk: r.flag()}
}

func entry(tenant string, row []sqlite.Value) record.Entry {
	r := reader{row}
	e := record.Entry{Tenant: tenant, At: time.UnixMilli(r.integer()).UTC()}
	copy(e.ID[:], r.bytes())
	e.Attempt, e.Outcome, e.Code = int(r.integer()), record.Outcome(r.integer()), r.text()
	e.Rows, e.BatchRows = int(r.integer()), int(r.integer())
	e.Latency = record.Latency{Decode: r.duration(), Queue: r.duration(), Infer: r.duration(), Encode: r.duration(), Total: r.duration()}
	e.ClientRef = r.text()
	copy(e.InputDigest[:], r.bytes())
	copy(e.OutputDigest[:], r.bytes())
	e.Steps = int(r.integer())
	s := r.series()
	e.Model, e.Version, e.Choice, e.Bulk = s.Model, s.Version, s.Choice, s.Bulk
	if len(r.row) > 0 {
		if e.Content = bytes.Clone(r.bytes()); e.Content != nil {
			e.ContentUntil = time.UnixMilli(r.integer()).UTC()
		}
	}
	return e
}
