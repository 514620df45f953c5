package spec

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

type thing struct {
	name string
	n    int64
	f    float64
	ok   bool
	at   time.Time
}

var (
	name = TextField("name", func(t *thing) string { return t.name })
	num  = IntField("n", func(t *thing) int64 { return t.n })
	frac = FloatField("f", func(t *thing) float64 { return t.f })
	flag = BoolField("ok", func(t *thing) bool { return t.ok })
	at   = TimeField("at", func(t *thing) time.Time { return t.at })

	columns = []Column[thing]{name, num, frac, flag, at}
)

func things(t *rapid.T) *thing {
	return &thing{
		rapid.StringMatching(`[ab]{0,3}`).Draw(t, "name"), rapid.Int64Range(-3, 3).Draw(t, "n"), rapid.Float64Range(-1, 1).Draw(t, "f"),
		rapid.Bool().Draw(t, "ok"), time.UnixMicro(rapid.Int64Range(-2, 2).Draw(t, "at")),
	}
}

func rules(t *rapid.T, depth int) Spec[thing] {
	if depth > 0 {
		switch rapid.IntRange(0, 3).Draw(t, "shape") {
		case 0:
			return And(rules(t, depth-1), rules(t, depth-1))
		case 1:
			return Or(rules(t, depth-1), rules(t, depth-1))
		case 2:
			return Negate(rules(t, depth-1))
		}
	}
	v := things(t)
	return rapid.SampledFrom([]Spec[thing]{
		name.Eq(v.name), name.StartsWith(v.name), name.In(v.name, "b"), name.In(), num.Lt(v.n), num.Ge(v.n), frac.Le(v.f), frac.Gt(v.f), flag.Eq(v.ok), at.Lt(v.at), at.Eq(v.at), {},
	}).Draw(t, "rule")
}

func (x *thing) field(name string) Value {
	for _, c := range columns {
		if c.Name() == name {
			return c.Of(x)
		}
	}
	panic("no field " + name)
}

// Property 3: a composed rule says what its parts say together.
func TestProperty3Composition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, x := rules(t, 2), rules(t, 2), things(t)
		if And(a, b).Match(x) != (a.Match(x) && b.Match(x)) {
			t.Error("And")
		}
		if Or(a, b).Match(x) != (a.Match(x) || b.Match(x)) {
			t.Error("Or")
		}
		if Negate(a).Match(x) == a.Match(x) {
			t.Error("Negate")
		}
		if Negate(And(a, b)).Match(x) != Or(Negate(a), Negate(b)).Match(x) {
			t.Error("De Morgan")
		}
	})
}

// The tree that adapters compile says the same as the rule in memory.
func TestTreeMatchesRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, x := rules(t, 3), things(t)
		if Eval(s.Expr(), x.field) != s.Match(x) {
			t.Errorf("%s: the tree and the rule differ on %+v", Text(s.Expr()), x)
		}
	})
}

func TestText(t *testing.T) {
	s := And(name.Eq("a\n"), Negate(Or(num.In(1, 2), flag.Eq(true))), frac.Le(.5), at.Gt(time.Unix(0, 0)), Spec[thing]{})
	want := `all(name = "a\n", not(any(n in 1 2, ok = true)), f <= 0.5, at > 1970-01-01T00:00:00Z, everything)`
	if got := Text(s.Expr()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestValues(t *testing.T) {
	zero := 0.0
	nan, negative := FloatValue(zero/zero), FloatValue(-zero)
	if nan != negative {
		t.Errorf("%v and %v have no common place in an order", nan, negative)
	}
	now := time.Date(2026, 11, 26, 1, 2, 3, 456789123, time.FixedZone("", 3600))
	if got := TimeValue(now).Time(); !got.Equal(now.Truncate(time.Microsecond)) || got.Location() != time.UTC {
		t.Errorf("time came back as %s", got)
	}
	if num.Of(&thing{n: -5}) != IntValue(-5) || num.Type() != TypeInt || at.Type().String() != "time" {
		t.Error("a field does not know its values")
	}
}

func TestStartsWithNeedsText(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a prefix of a number was accepted")
		}
	}()
	num.StartsWith(1)
}

func TestUnsupported(t *testing.T) {
	err := Unsupported("no order by %s", "name")
	if !errors.Is(err, ErrUnsupported) || !fault.Is(err, fault.Unsupported) || fault.CodeOf(err) != "query_unsupported" {
		t.Errorf("got %v", err)
	}
}

func TestQueryLimits(t *testing.T) {
	for limit, want := range map[int]int{-1: DefaultLimit, 0: DefaultLimit, 7: 7, MaxLimit + 1: MaxLimit} {
		if got := (Query[thing]{Limit: limit}).PageLimit(); got != want {
			t.Errorf("%d: %d, want %d", limit, got, want)
		}
	}
	for d, want := range map[Deleted][2]bool{WithoutDeleted: {true, false}, WithDeleted: {true, true}, OnlyDeleted: {false, true}} {
		if d.Sees(false) != want[0] || d.Sees(true) != want[1] {
			t.Errorf("%d sees the wrong things", d)
		}
	}
}
