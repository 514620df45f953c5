package repo

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
)

// FindQuery is a query as drivers answer it.
type FindQuery struct {
	Tenant     string
	Where      spec.Expr // nil: everything
	Order      string    // a column; empty: by id alone
	Descending bool
	After      *Position // what the answer begins behind; nil: with the first
	Limit      int
	Deleted    spec.Deleted
	Now        time.Time // what has expired by then is not seen
}

// Position is a place in an order: the value of the order's column, and the id.
type Position struct {
	Value spec.Value
	ID    string
}

// SummaryQuery is a summary as drivers answer it.
type SummaryQuery struct {
	Tenant   string
	Where    spec.Expr
	By       string // a column; empty: one group of all
	Measures []spec.Measure
	Deleted  spec.Deleted
	Now      time.Time
	Most     int // see spec.Summary
}

// Selects says whether the query selects the record, its place aside: for
// drivers that look at records one by one.
func (q *FindQuery) Selects(s *Schema, r *Record) bool {
	return r.Tenant == q.Tenant && r.Kind == s.Kind && q.Deleted.Sees(!r.DeletedAt.IsZero()) && !r.Expired(q.Now) &&
		spec.Eval(q.Where, func(column string) spec.Value { return r.Fields[s.Index(column)] }) &&
		(q.After == nil || q.compare(q.Place(s, r), *q.After) > 0)
}

// Place returns where the record stands in the query's order.
func (q *FindQuery) Place(s *Schema, r *Record) Position {
	if q.Order == "" {
		return Position{ID: r.ID}
	}
	return Position{r.Fields[s.Index(q.Order)], r.ID}
}

// Compare compares the places of two records in the query's order.
func (q *FindQuery) Compare(s *Schema, a, b *Record) int {
	return q.compare(q.Place(s, a), q.Place(s, b))
}

func (q *FindQuery) compare(a, b Position) int {
	c := cmp.Or(a.Value.Compare(b.Value), cmp.Compare(a.ID, b.ID))
	if q.Descending {
		return -c
	}
	return c
}

// check refuses what no driver could answer.
func check(s *Schema, e spec.Expr, columns ...string) error {
	for _, c := range columns {
		if c != "" && s.Index(c) < 0 {
			return unknownColumn(s, c)
		}
	}
	switch e := e.(type) {
	case *spec.Compare:
		return check(s, nil, e.Field)
	case *spec.All:
		return checkAll(s, e.Of)
	case *spec.Any:
		return checkAll(s, e.Of)
	case *spec.Not:
		return check(s, e.Of)
	}
	return nil
}

func checkAll(s *Schema, parts []spec.Expr) error {
	for _, e := range parts {
		if err := check(s, e); err != nil {
			return err
		}
	}
	return nil
}

func unknownColumn(s *Schema, column string) error {
	names := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		names[i] = c.Name
	}
	return fault.New(fault.Invalid, "%s cannot be filtered or ordered by %q, expected one of %q", s.Kind, fault.Clip(column, 64), names).WithCode("unknown_field")
}

// cursor is a Position as clients carry it from page to page. Query ties it to
// the query that it came from.
type cursor struct {
	Query uint64  `json:"q"`
	ID    string  `json:"i"`
	Text  string  `json:"t,omitempty"`
	Int   int64   `json:"n,omitempty"`
	Float float64 `json:"f,omitempty"`
}

// fingerprint tells queries apart whose pages must not be mixed.
func (q *FindQuery) fingerprint(s *Schema) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q %q %t %d %s", q.Tenant, s.Kind, q.Order, q.Descending, q.Deleted, spec.Text(q.Where))
	return h.Sum64()
}

func (q *FindQuery) encode(s *Schema, p Position) string {
	data, err := json.Marshal(cursor{q.fingerprint(s), p.ID, p.Value.Text, p.Value.Int, p.Value.Float})
	if err != nil {
		panic("repo: a cursor cannot be encoded: " + err.Error()) // its values are finite
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func (q *FindQuery) decode(s *Schema, text string) (*Position, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no cursor is no position
	}
	wrong := fault.New(fault.Invalid, "the cursor does not belong to this query: use next_cursor as it was given, with the same filter and order").WithCode("invalid_cursor")
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, wrong
	}
	var c cursor
	if json.Unmarshal(data, &c) != nil || c.Query != q.fingerprint(s) {
		return nil, wrong
	}
	p := &Position{ID: c.ID}
	if i := s.Index(q.Order); i >= 0 {
		p.Value = spec.Value{Type: s.Columns[i].Type, Text: c.Text, Int: c.Int, Float: c.Float}
	}
	return p, nil
}
