package sqliterepo

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/sqlite"
)

// never is how a zero time is kept: as the end of all times, so that one
// comparison finds what has not expired.
const never = math.MaxInt64

func micros(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMicro()
}

func moment(n int64) time.Time {
	if n == never {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// table is the SQL for the records of a kind. They lie in the order of their
// keys (WITHOUT ROWID): a list by id reads neighbours, and each index ends in
// the key by itself.
type table struct {
	kind    string
	columns []repo.Column

	get, version, insert, update, erase, expired string
}

// fixed are the columns of all kinds, in the order in which record reads them;
// those of the schema follow, with a prefix that keeps them apart.
var fixed = []string{"tenant", "id", "version", "sequence", "created_at", "created_by", "updated_at", "updated_by", "deleted_at", "expires_at", "doc"}

// identifier is what a kind or a column may be called; it goes into SQL as it is.
var identifier = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

func newTable(s *repo.Schema) (*table, error) {
	names := []string{s.Kind}
	for _, c := range s.Columns {
		names = append(names, c.Name)
	}
	for _, name := range names {
		if !identifier.MatchString(name) {
			return nil, fault.New(fault.Internal, "%q cannot be the name of a kind or a column: expected %s", fault.Clip(name, 64), identifier)
		}
	}
	all := append(fixed[:len(fixed):len(fixed)], columnNames(s)...)
	const key = "tenant = ? AND id = ?"
	name := tableName(s.Kind)
	return &table{
		kind: s.Kind, columns: s.Columns,
		get:     fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(all, ", "), name, key),
		version: fmt.Sprintf("SELECT version FROM %s WHERE %s", name, key),
		insert:  fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", name, strings.Join(all, ", "), places(len(all))),
		update:  fmt.Sprintf("UPDATE %s SET %s = ? WHERE %s", name, strings.Join(all[2:], " = ?, "), key),
		erase:   fmt.Sprintf("DELETE FROM %s WHERE %s", name, key),
		expired: fmt.Sprintf("SELECT tenant, id FROM %s WHERE expires_at <= ? AND expires_at < %d LIMIT ?", name, int64(never)),
	}, nil
}

func tableName(kind string) string { return "r_" + kind }

func columnName(column string) string { return "c_" + column }

func columnNames(s *repo.Schema) []string {
	out := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		out[i] = columnName(c.Name)
	}
	return out
}

// places returns n places for arguments.
func places(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// argument returns a field's value as SQLite keeps it.
func argument(v spec.Value) value {
	switch v.Type {
	case spec.TypeText:
		return v.Text
	case spec.TypeFloat:
		return v.Float
	default:
		return v.Int
	}
}

// field is the reverse of argument.
func field(t spec.Type, v value) (spec.Value, error) {
	out := spec.Value{Type: t}
	var ok bool
	switch t {
	case spec.TypeText:
		out.Text, ok = v.(string)
	case spec.TypeFloat:
		out.Float, ok = v.(float64)
	default:
		out.Int, ok = v.(int64)
	}
	if !ok {
		return out, fault.New(fault.Internal, "the store holds a %T where a %s is expected", v, t).WithCode("store_corrupt")
	}
	return out, nil
}

// insertion returns the statement that adds a record.
func (t *table) insertion(r *repo.Put) statement {
	s := sqlite.Sized(t.insert, len(fixed)+len(r.Fields))
	s.Bind(r.Tenant, r.ID)
	bindState(&s, &r.Record)
	return s
}

// change returns the statement that updates a record.
func (t *table) change(r *repo.Put) statement {
	s := sqlite.Sized(t.update, len(fixed)+len(r.Fields))
	bindState(&s, &r.Record)
	s.Bind(r.Tenant, r.ID)
	return s
}

// bindState adds what an update sets, in the order of the columns.
func bindState(s *statement, r *repo.Record) {
	s.Bind(r.Version, r.Sequence, micros(r.CreatedAt), r.CreatedBy, micros(r.UpdatedAt), r.UpdatedBy, micros(r.DeletedAt), micros(r.ExpiresAt), r.Doc)
	for i := range r.Fields {
		s.Bind(argument(r.Fields[i]))
	}
}

// record reads a row that begins with the fixed columns; those of the schema
// follow.
func record(kind string, columns []repo.Column, row []value) (repo.Record, error) {
	r := reader{row: row}
	out := repo.Record{
		Key: repo.Key{Kind: kind, Tenant: r.text(), ID: r.text()}, Version: r.integer(), Sequence: r.integer(),
		CreatedAt: r.time(), CreatedBy: r.text(), UpdatedAt: r.time(), UpdatedBy: r.text(), DeletedAt: r.time(), ExpiresAt: r.time(),
		Doc: r.bytes(), Fields: make([]spec.Value, len(columns)),
	}
	for i, c := range columns {
		v, err := field(c.Type, r.next())
		if err != nil {
			return out, err
		}
		out.Fields[i] = v
	}
	return out, nil
}

// reader takes the values of a row one by one. The tables are strict about what
// they hold, so another type than the column's does not come.
type reader struct{ row []value }

func (r *reader) next() value {
	v := r.row[0]
	r.row = r.row[1:]
	return v
}

func (r *reader) text() string    { v, _ := r.next().(string); return v }
func (r *reader) integer() int64  { v, _ := r.next().(int64); return v }
func (r *reader) bytes() []byte   { v, _ := r.next().([]byte); return v }
func (r *reader) time() time.Time { return moment(r.integer()) }
