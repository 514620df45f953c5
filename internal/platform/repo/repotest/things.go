package repotest

import (
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

type thingID string

// thing is an aggregate with a field of each type. Its events are kept.
type thing struct {
	aggregate.Root[thingID]
	Name string    `json:"name"`
	N    int64     `json:"n"`
	F    float64   `json:"f"`
	On   bool      `json:"on"`
	At   time.Time `json:"at"`
	Note string    `json:"note"` // in no column
}

func (t *thing) set(v thing) {
	t.Name, t.N, t.F, t.On, t.At, t.Note = v.Name, v.N, v.F, v.On, v.At, v.Note
}

// changed is what happens to things.
type changed struct {
	N int64 `json:"n"`
}

// EventType implements aggregate.Event.
func (changed) EventType() string { return "thing.changed" }

// EventVersion implements aggregate.Versioned.
func (changed) EventVersion() int { return 3 }

var (
	name = spec.TextField("name", func(t *thing) string { return t.Name })
	num  = spec.IntField("n", func(t *thing) int64 { return t.N })
	frac = spec.FloatField("f", func(t *thing) float64 { return t.F })
	on   = spec.BoolField("is_on", func(t *thing) bool { return t.On })
	at   = spec.TimeField("at", func(t *thing) time.Time { return t.At })

	things = repo.Kind[thingID, thing]{
		Name: "repotest_things", Root: func(t *thing) *aggregate.Root[thingID] { return &t.Root },
		Columns: []spec.Column[thing]{name, num, frac, on, at}, Keep: true,
	}
)

// lease is an aggregate that ends by itself. Its events are not kept.
type lease struct {
	aggregate.Root[thingID]
	Until time.Time `json:"until"`
	N     int64     `json:"n"`
}

var leases = repo.Kind[thingID, lease]{
	Name: "repotest_leases", Root: func(l *lease) *aggregate.Root[thingID] { return &l.Root },
	Columns: []spec.Column[lease]{spec.IntField("n", func(l *lease) int64 { return l.N })},
	Expires: func(l *lease) time.Time { return l.Until },
}

func schemas() []*repo.Schema {
	return []*repo.Schema{things.Schema(), leases.Schema(), orders.Schema()}
}

// newThing returns a thing that says in an event that it was made.
func newThing(id thingID, v thing) *thing {
	t := &thing{Root: aggregate.Root[thingID]{ID: id}}
	t.set(v)
	t.Record(changed{v.N})
	return t
}

// epoch is the middle of the drawn times.
var epoch = time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC)

// Drawn values are few, so that they often are equal, and odd where stores may
// stumble. Floats are multiples of a quarter: their sums are exact.
var (
	drawnTexts = rapid.OneOf(
		rapid.SampledFrom([]string{"", " ", "a", "A", "aa", "ab", "b", "a'b", `a"b`, `a\b`, "a%", "a_b", "a\nb", "\u007f", "é", "e\u0301", "ÿ", "日本", "\ufffd", "\uffff", "😀", "\U0010ffff", "null", "1", "1.0"}),
		rapid.StringMatching(`[ab]{0,3}`))
	drawnInts   = rapid.OneOf(rapid.Int64Range(-3, 3), rapid.SampledFrom([]int64{-1 << 40, 1<<53 + 1, 1 << 60, -1 << 60, 1<<31 - 1}))
	drawnFloats = rapid.Custom(func(t *rapid.T) float64 {
		return float64(rapid.OneOf(rapid.IntRange(-4, 4), rapid.SampledFrom([]int{-1 << 40, 1 << 40, 10, 100})).Draw(t, "quarters")) / 4
	})
	drawnTimes = rapid.Custom(func(t *rapid.T) time.Time {
		return epoch.Add(time.Duration(rapid.OneOf(rapid.Int64Range(-2, 2), rapid.SampledFrom([]int64{-1 << 51, 1 << 51, 1e6})).Draw(t, "µs")) * time.Microsecond)
	})
	drawnThings = rapid.Custom(func(t *rapid.T) thing {
		return thing{Name: drawnTexts.Draw(t, "name"), N: drawnInts.Draw(t, "n"), F: drawnFloats.Draw(t, "f"), On: rapid.Bool().Draw(t, "on"),
			At: drawnTimes.Draw(t, "at"), Note: drawnTexts.Draw(t, "note")}
	})
	drawnOrders = rapid.SampledFrom([]spec.Order[thing]{
		{}, {Descending: true}, name.Asc(), name.Desc(), num.Asc(), num.Desc(), frac.Asc(), frac.Desc(), on.Asc(), on.Desc(), at.Asc(), at.Desc(),
	})
	drawnDeleted = rapid.SampledFrom([]spec.Deleted{spec.WithoutDeleted, spec.WithDeleted, spec.OnlyDeleted})
)

// drawRule returns a rule of at most this depth.
func drawRule(t *rapid.T, depth int) spec.Spec[thing] {
	if depth > 0 {
		switch rapid.IntRange(0, 3).Draw(t, "shape") {
		case 0:
			return spec.And(drawRule(t, depth-1), drawRule(t, depth-1))
		case 1:
			return spec.Or(drawRule(t, depth-1), drawRule(t, depth-1))
		case 2:
			return spec.Negate(drawRule(t, depth-1))
		}
	}
	v := drawnThings.Draw(t, "value")
	return rapid.SampledFrom([]spec.Spec[thing]{
		name.Eq(v.Name), name.Lt(v.Name), name.Ge(v.Name), name.StartsWith(v.Name), name.In(v.Name, "b"), name.In(),
		num.Eq(v.N), num.Lt(v.N), num.Ge(v.N), num.In(v.N, 0, 1), frac.Le(v.F), frac.Gt(v.F), frac.Eq(v.F),
		on.Eq(v.On), on.Gt(v.On), at.Lt(v.At), at.Le(v.At), at.Eq(v.At), spec.And[thing](), spec.Or[thing](), {},
	}).Draw(t, "rule")
}
