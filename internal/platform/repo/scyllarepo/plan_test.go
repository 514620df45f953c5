package scyllarepo

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

var rows = &repo.Schema{Kind: "rows", Columns: []repo.Column{{Name: "a", Type: spec.TypeText}, {Name: "n", Type: spec.TypeInt}, {Name: "f", Type: spec.TypeFloat}, {Name: "t", Type: spec.TypeTime}}}

func is(field string, op spec.Op, values ...spec.Value) spec.Expr {
	return &spec.Compare{Field: field, Op: op, Values: values}
}

func both(of ...spec.Expr) spec.Expr   { return &spec.All{Of: of} }
func either(of ...spec.Expr) spec.Expr { return &spec.Any{Of: of} }
func not(of spec.Expr) spec.Expr       { return &spec.Not{Of: of} }
func text(s string) spec.Value         { return spec.TextValue(s) }
func num(n int64) spec.Value           { return spec.IntValue(n) }

func TestPlans(t *testing.T) {
	const refused = "refused"
	seventeen := make([]spec.Value, 17)
	for i := range seventeen {
		seventeen[i] = num(int64(i))
	}
	for _, c := range []struct {
		where    spec.Expr
		order    string
		field    string // refused for an error
		spans    int
		residual bool
	}{
		{nil, "", "", 1, false},
		{both(), "", "", 1, false},
		{either(), "", "", 0, false},
		{not(nil), "n", "", 0, false},
		{is("a", spec.Eq, text("x")), "", "a", 1, false},
		{is("a", spec.In, text("x"), text("y"), text("x")), "", "a", 2, false},
		{is("a", spec.In), "", "", 0, false},
		{is("n", spec.In, seventeen...), "", refused, 0, false},
		{either(is("a", spec.Eq, text("x")), is("a", spec.Eq, text("y"))), "", "a", 2, false},
		{either(is("a", spec.Eq, text("x")), is("n", spec.Eq, num(1))), "", refused, 0, false},
		{both(is("n", spec.Gt, num(1)), is("a", spec.Eq, text("x"))), "", "a", 1, true},
		{is("n", spec.Gt, num(1)), "", refused, 0, false},
		{is("a", spec.Prefix, text("x")), "", refused, 0, false},
		{not(is("a", spec.Eq, text("x"))), "", refused, 0, false},
		{nil, "n", "n", 1, false},
		{is("n", spec.Gt, num(1)), "n", "n", 1, false},
		{not(not(is("n", spec.Gt, num(1)))), "n", "n", 1, false},
		{not(is("n", spec.Gt, num(1))), "n", "n", 1, false},
		{both(is("n", spec.Ge, num(1)), is("n", spec.Lt, num(5))), "n", "n", 1, false},
		{both(is("n", spec.Gt, num(5)), is("n", spec.Lt, num(5))), "n", "n", 0, false},
		{both(is("n", spec.In, num(1), num(3), num(9)), is("n", spec.Lt, num(5))), "n", "n", 2, false},
		{both(is("n", spec.Ge, num(1)), is("a", spec.Eq, text("x"))), "n", "n", 1, true},
		{is("a", spec.Prefix, text("x")), "a", "a", 1, false},
		{is("a", spec.Eq, text("x")), "n", refused, 0, false},
		{not(both(is("n", spec.Ge, num(1)), is("a", spec.Eq, text("x")))), "n", refused, 0, false},
		{not(either(is("n", spec.Ge, num(1)), is("n", spec.Lt, num(-1)))), "n", "n", 1, false},
	} {
		p, err := planOf(rows, &repo.FindQuery{Where: c.where, Order: c.order})
		if (err != nil) != (c.field == refused) || err != nil && !errors.Is(err, spec.ErrUnsupported) {
			t.Errorf("%s by %q: %v", spec.Text(c.where), c.order, err)
			continue
		}
		if got := (plan{c.field, nil, c.residual}); err == nil && len(p.spans) > 0 && (p.field != got.field || p.residual != got.residual) || err == nil && len(p.spans) != c.spans {
			t.Errorf("%s by %q: field %q, %d spans, residual %t", spec.Text(c.where), c.order, p.field, len(p.spans), p.residual)
		}
	}
}

var (
	texts  = rapid.SampledFrom([]string{"", "a", "aa", "ab", "b", "\uffff", "\U0010ffff", "é"})
	fields = rapid.SampledFrom([]string{"a", "n", "f", "t"})
)

func drawValue(t *rapid.T, field string) spec.Value {
	n := rapid.Int64Range(-3, 3).Draw(t, "number")
	switch field {
	case "a":
		return text(texts.Draw(t, "text"))
	case "f":
		return spec.FloatValue(float64(n) / 2)
	case "t":
		return spec.Value{Type: spec.TypeTime, Int: n}
	}
	return num(n)
}

func drawRule(t *rapid.T, depth int) spec.Expr {
	if depth > 0 {
		switch rapid.IntRange(0, 4).Draw(t, "shape") {
		case 0:
			return both(drawRule(t, depth-1), drawRule(t, depth-1))
		case 1:
			return either(drawRule(t, depth-1), drawRule(t, depth-1))
		case 2:
			return not(drawRule(t, depth-1))
		}
	}
	field := fields.Draw(t, "field")
	op := rapid.SampledFrom([]spec.Op{spec.Eq, spec.Eq, spec.Lt, spec.Le, spec.Gt, spec.Ge, spec.In, spec.Prefix}).Draw(t, "op")
	if op == spec.Prefix {
		field = "a"
	}
	values := []spec.Value{drawValue(t, field)}
	if op == spec.In {
		values = append(values, drawValue(t, field), drawValue(t, field))[:rapid.IntRange(0, 3).Draw(t, "values")]
	}
	return is(field, op, values...)
}

func drawRecord(t *rapid.T, id string) *state {
	s := &state{Record: repo.Record{Key: repo.Key{Kind: rows.Kind, ID: id}, Version: 1}, found: true, fields: map[string][]byte{}}
	for _, c := range rows.Columns {
		v := drawValue(t, c.Name)
		s.Fields = append(s.Fields, v)
		s.fields[c.Name] = encode(v)
	}
	return s
}

// Property 3 for this store: what a plan's spans lead to, and the rule selects,
// is what the query selects; without a residue the spans alone say it. And what
// is simplified says the same.
func TestProperty3PlansFindWhatRulesSelect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &repo.FindQuery{Where: drawRule(t, 3), Order: rapid.SampledFrom([]string{"", "a", "n", "f", "t"}).Draw(t, "order"), Descending: rapid.Bool().Draw(t, "descending")}
		var all []*state
		for _, id := range []string{"1", "2", "3", "4", "5", "6"} {
			all = append(all, drawRecord(t, id))
		}
		if rapid.Bool().Draw(t, "after") {
			at := q.Place(rows, &all[2].Record)
			q.After = &at
		}
		p, err := planOf(rows, q)
		simple := *q
		simple.Where = simplify(q.Where)
		for _, s := range all {
			want := q.Selects(rows, &s.Record)
			if got := simple.Selects(rows, &s.Record); got != want {
				t.Fatalf("%s was simplified to %s", spec.Text(q.Where), spec.Text(simple.Where))
			}
			if err != nil {
				continue
			}
			led := 0
			for _, sp := range p.spans {
				if sp.has(place{string(s.fields[p.field]), s.ID}) {
					led++
				}
			}
			if led > 1 || want && led == 0 || !want && led > 0 && !p.residual {
				t.Fatalf("%s by %q after %v: %d spans lead to %v, selected: %t; plan %+v", spec.Text(q.Where), q.Order, q.After, led, s.Fields, want, p)
			}
		}
	})
}

// Entries come in the order of the query, and every record is exactly where it
// says that it is.
func TestOrderOfEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &repo.FindQuery{Order: rapid.SampledFrom([]string{"", "a", "n", "f", "t"}).Draw(t, "order"), Descending: rapid.Bool().Draw(t, "descending")}
		a, b := drawRecord(t, texts.Draw(t, "id")), drawRecord(t, texts.Draw(t, "id"))
		at := func(s *state) entry {
			all := s.entries()
			return all[slices.IndexFunc(all, func(e entry) bool { return e.field == q.Order })]
		}
		if want, got := q.Compare(rows, &a.Record, &b.Record), order(q)(at(a), at(b)); got != want {
			t.Fatalf("entries compare as %d, records as %d", got, want)
		}
		for _, e := range a.entries() {
			if !a.has(e) || b.has(e) && !slices.Contains(b.entries(), e) {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// Encoded values sort as values do, and come back.
func TestEncodeLaw(t *testing.T) {
	values := map[string]*rapid.Generator[spec.Value]{
		"text":  rapid.Map(rapid.String(), spec.TextValue),
		"int":   rapid.Map(rapid.Int64(), spec.IntValue),
		"float": rapid.Map(rapid.Float64(), spec.FloatValue),
		"bool":  rapid.Map(rapid.Bool(), spec.BoolValue),
	}
	for name, g := range values {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				a, b := g.Draw(t, "a"), g.Draw(t, "b")
				if bytes.Compare(encode(a), encode(b)) != a.Compare(b) {
					t.Fatalf("%s and %s sort otherwise than %x and %x", a, b, encode(a), encode(b))
				}
				back, ok := decode(a.Type, encode(a))
				if diff := cmp.Diff(a, back); !ok || diff != "" {
					t.Fatalf("%s came back as %s", a, back)
				}
			})
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint8(1), []byte("\x80\x00\x00\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		typ := spec.Type(kind % 5)
		v, ok := decode(typ, b)
		if ok && v.Float == v.Float && !bytes.Equal(encode(v), b) {
			t.Errorf("%x became %s, which is %x", b, v, encode(v))
		}
	})
}

// has says whether a place is in the span.
func (s span) has(p place) bool {
	return s.from.compare(p) <= 0 && (!s.closed || p.compare(s.to) < 0)
}
