package scyllarepo

import (
	"cmp"
	"slices"
	"strings"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// maxValues is how many values an equality may have: each is read by itself.
const maxValues = 16

// place is where an entry stands in the order of its field.
type place struct{ value, id string }

func (a place) compare(b place) int {
	return cmp.Or(strings.Compare(a.value, b.value), strings.Compare(a.id, b.id))
}

// span is a stretch of entries: from one place, inclusive, to another, exclusive,
// or to the end.
type span struct {
	from   place
	to     place
	closed bool // there is a to
}

func (s span) empty() bool { return s.closed && s.from.compare(s.to) >= 0 }

// both returns what two spans have in common.
func (s span) both(o span) span {
	if s.from.compare(o.from) < 0 {
		s.from = o.from
	}
	if o.closed && (!s.closed || o.to.compare(s.to) < 0) {
		s.to, s.closed = o.to, true
	}
	return s
}

// after is the place behind what is at p, and before all else.
func (a place) after() place { return place{a.value, a.id + "\x00"} }

// beyond is the first place behind a value.
func beyond(value string) place { return place{value: value + "\x00"} }

// plan is how a query is answered: by following the entries of a field within
// spans, in the order of the query.
type plan struct {
	field    string
	spans    []span // apart from each other
	residual bool   // the entries lead to records, too, that the rule does not select
}

// planOf says how to answer a query, or returns spec.ErrUnsupported.
func planOf(s *repo.Schema, q *repo.FindQuery) (plan, error) {
	rule := simplify(q.Where)
	if isNothing(rule) {
		return plan{}, nil
	}
	of := conditions(rule)
	if q.Order != "" {
		return ordered(s, q, of)
	}
	if len(of) == 0 {
		return plan{spans: behind(q, []span{{}})}, nil
	}
	i := equal(of)
	if i < 0 {
		return plan{}, spec.Unsupported("in the order of ids, a condition that some column equals a value is needed, got %q", fault.Clip(spec.Text(rule), 200))
	}
	leading := of[i].(*spec.Compare) //nolint:forcetypeassert // as equal says
	spans, err := spansOf(leading)
	return plan{leading.Field, behind(q, spans), len(of) > 1}, err
}

// ordered plans a query in the order of a column: what the rule says of the
// column bounds what is read.
func ordered(s *repo.Schema, q *repo.FindQuery, of []spec.Expr) (plan, error) {
	mine, rest := on(q.Order, of)
	if len(mine) == 0 && len(rest) > 0 {
		return plan{}, spec.Unsupported("%s in the order of %s need a condition on %s itself", s.Kind, q.Order, q.Order)
	}
	spans := []span{{}}
	for _, c := range mine {
		these, err := spansOf(c)
		if err != nil {
			return plan{}, err
		}
		var common []span
		for _, a := range spans {
			for _, b := range these {
				common = append(common, a.both(b))
			}
		}
		spans = slices.DeleteFunc(common, span.empty)
	}
	return plan{q.Order, behind(q, spans), len(rest) > 0}, nil
}

// spansOf returns where a comparison holds: one span, or one for each value.
func spansOf(c *spec.Compare) ([]span, error) {
	values := make([]string, len(c.Values))
	for i, v := range c.Values {
		values[i] = string(encode(v))
	}
	slices.Sort(values)
	values = slices.Compact(values)
	if len(values) > maxValues {
		return nil, spec.Unsupported("%s equals one of %d values, expected at most %d", c.Field, len(values), maxValues)
	}
	v := values[0]
	switch c.Op {
	case spec.Lt:
		return []span{{to: place{value: v}, closed: true}}, nil
	case spec.Le:
		return []span{{to: beyond(v), closed: true}}, nil
	case spec.Gt:
		return []span{{from: beyond(v)}}, nil
	case spec.Ge:
		return []span{{from: place{value: v}}}, nil
	case spec.Prefix:
		end, closed := pastPrefix(v)
		return []span{{from: place{value: v}, to: place{value: end}, closed: closed}}, nil
	}
	spans := make([]span, len(values))
	for i, v := range values {
		spans[i] = span{from: place{value: v}, to: beyond(v), closed: true}
	}
	return spans, nil
}

// pastPrefix returns the first text behind all that begin with prefix; false
// where nothing is.
func pastPrefix(prefix string) (string, bool) {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1]), true
		}
	}
	return "", false
}

// behind cuts off spans what lies before the page.
func behind(q *repo.FindQuery, spans []span) []span {
	if q.After == nil {
		return spans
	}
	var out []span
	for _, s := range spans {
		at := place{s.from.value, q.After.ID} // by id: each value for itself
		if q.Order != "" {
			at.value = string(encode(q.After.Value))
		}
		rest := span{from: at.after()}
		if q.Descending {
			rest = span{to: at, closed: true}
		}
		if s = s.both(rest); !s.empty() {
			out = append(out, s)
		}
	}
	return out
}
