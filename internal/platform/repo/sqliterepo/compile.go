package sqliterepo

import (
	"strings"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// maxArguments is how many values a query may compare with: SQLite binds 32766.
const maxArguments = 32_000

// query builds a statement. Names are those of a checked schema; values are
// bound.
type query struct {
	strings.Builder
	statement
}

func (q *query) add(sql string, args ...value) {
	q.WriteString(sql)
	q.Bind(args...)
}

func (q *query) finish() (statement, error) {
	if q.Arguments() > maxArguments {
		return statement{}, spec.Unsupported("its rule compares with %d values, at most %d are possible", q.Arguments(), maxArguments)
	}
	q.SQL = q.String()
	return q.statement, nil
}

// find compiles a query for a page.
//
// The index of the order's column holds (tenant, column, id), so that the place
// behind which the page begins is found by descending into it, however deep, and
// what was deleted or has expired is left out without looking at the records.
func find(s *repo.Schema, f *repo.FindQuery) (statement, error) {
	q := new(query)
	q.add("SELECT " + strings.Join(append(fixed[:len(fixed):len(fixed)], columnNames(s)...), ", ") + " FROM " + tableName(s.Kind))
	if equal := equality(f.Where); f.Order == "" && equal != "" {
		// Its index is in the order of ids there. The planner would rather go
		// through all ids, and knows nothing of how many have the value.
		q.add(" INDEXED BY " + indexName(s.Kind, equal))
	}
	q.where(f.Tenant, f.Deleted, micros(f.Now), f.Where)
	order, direction, sign := "", "", " > "
	if f.Descending {
		direction, sign = " DESC", " < "
	}
	if f.Order != "" {
		order = columnName(f.Order)
	}
	switch {
	case f.After != nil && order != "":
		q.add(" AND ("+order+", id)"+sign+"(?, ?)", argument(f.After.Value), f.After.ID)
	case f.After != nil:
		q.add(" AND id"+sign+"?", f.After.ID)
	}
	q.add(" ORDER BY ")
	if order != "" {
		q.add(order + direction + ", ")
	}
	q.add("id"+direction+" LIMIT ?", int64(f.Limit))
	return q.finish()
}

// equality returns a column that has one value in all that satisfies a rule, if
// the rule shows it.
func equality(e spec.Expr) string {
	switch e := e.(type) {
	case *spec.Compare:
		if e.Op == spec.Eq {
			return e.Field
		}
	case *spec.All:
		for _, part := range e.Of {
			if column := equality(part); column != "" {
				return column
			}
		}
	}
	return ""
}

// where adds the conditions that queries and summaries have.
func (q *query) where(tenant string, deleted spec.Deleted, now int64, rule spec.Expr) {
	q.add(" WHERE tenant = ? AND expires_at > ?", tenant, now)
	switch deleted {
	case spec.WithoutDeleted:
		q.add(" AND deleted_at = 9223372036854775807") // never
	case spec.OnlyDeleted:
		q.add(" AND deleted_at < 9223372036854775807")
	}
	if rule != nil {
		q.add(" AND ")
		q.rule(rule)
	}
}

func (q *query) rule(e spec.Expr) {
	switch e := e.(type) {
	case *spec.Compare:
		q.compare(e)
	case *spec.All:
		q.list(e.Of, " AND ", "TRUE")
	case *spec.Any:
		q.list(e.Of, " OR ", "FALSE")
	case *spec.Not:
		q.add("NOT ")
		q.list([]spec.Expr{e.Of}, "", "")
	default:
		q.add("TRUE")
	}
}

func (q *query) list(parts []spec.Expr, between, none string) {
	if len(parts) == 0 {
		q.add(none)
		return
	}
	q.add("(")
	for i, e := range parts {
		if i > 0 {
			q.add(between)
		}
		q.rule(e)
	}
	q.add(")")
}

var operators = map[spec.Op]string{spec.Eq: " = ?", spec.Lt: " < ?", spec.Le: " <= ?", spec.Gt: " > ?", spec.Ge: " >= ?"}

func (q *query) compare(c *spec.Compare) {
	column := columnName(c.Field)
	switch c.Op {
	case spec.In:
		if len(c.Values) == 0 {
			q.add("FALSE")
			return
		}
		q.add(column + " IN (" + places(len(c.Values)) + ")")
		for _, v := range c.Values {
			q.Bind(argument(v))
		}
	case spec.Prefix:
		q.prefix(column, c.Values[0].Text)
	default:
		q.add(column+operators[c.Op], argument(c.Values[0]))
	}
}

// prefix compares with all texts from the prefix to the first that is too great,
// so that an index can be used; LIKE would not tell bytes apart.
func (q *query) prefix(column, text string) {
	end := len(text)
	for end > 0 && text[end-1] == 0xff {
		end--
	}
	if end == 0 {
		q.add("("+column+" >= ?)", text)
		return
	}
	q.add("("+column+" >= ? AND "+column+" < ?)", text, text[:end-1]+string([]byte{text[end-1] + 1}))
}

var functions = map[spec.Function]string{spec.Sum: "sum", spec.Avg: "avg", spec.Min: "min", spec.Max: "max"}

// summarise compiles a summary, and returns the types of the measures.
func summarise(s *repo.Schema, f *repo.SummaryQuery) (statement, []spec.Type, error) {
	q := new(query)
	types := make([]spec.Type, len(f.Measures))
	by := "NULL"
	if f.By != "" {
		by = columnName(f.By)
	}
	q.add("SELECT " + by)
	for i, m := range f.Measures {
		if m.Function == spec.Count {
			q.add(", count(*)")
			types[i] = spec.TypeInt
			continue
		}
		q.add(", " + functions[m.Function] + "(" + columnName(m.Field) + ")")
		types[i] = s.Columns[s.Index(m.Field)].Type
		if m.Function == spec.Avg {
			types[i] = spec.TypeFloat
		}
	}
	q.add(" FROM ")
	if f.Most > 0 {
		q.add("(SELECT * FROM ")
	}
	q.add(tableName(s.Kind))
	q.where(f.Tenant, f.Deleted, micros(f.Now), f.Where)
	if f.Most > 0 {
		q.add(" LIMIT ?)", int64(f.Most))
	}
	if f.By != "" {
		q.add(" GROUP BY " + by + " ORDER BY " + by)
	} else {
		q.add(" HAVING count(*) > 0")
	}
	st, err := q.finish()
	return st, types, err
}
