package recordtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
)

// generator draws entries of few series, near each other in time.
func generator(tenant string) *rapid.Generator[record.Entry] {
	from := base()
	return rapid.Custom(func(t *rapid.T) record.Entry {
		at := from.Add(time.Duration(rapid.IntRange(0, 3*3600_000).Draw(t, "at")) * time.Millisecond)
		e := record.Entry{ID: record.NewID(at), At: at, Tenant: tenant,
			Model: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "model"), Version: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "version"),
			Outcome: record.Outcome(rapid.IntRange(0, len(record.Outcomes())-1).Draw(t, "outcome")), Rows: rapid.IntRange(0, 100).Draw(t, "rows"), BatchRows: 100, Steps: rapid.IntRange(0, 3).Draw(t, "steps"),
			Bulk: rapid.Bool().Draw(t, "bulk"),
		}
		if rapid.Bool().Draw(t, "experiment") {
			e.Choice = record.Choice{Experiment: "exp", Arm: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "arm"), ByRule: rapid.Bool().Draw(t, "by rule"), Shadow: rapid.Bool().Draw(t, "shadow")}
		}
		if rapid.IntRange(0, 3).Draw(t, "durable") == 0 { // its id says nothing of when the attempt was begun
			e.ID, e.Attempt = record.ID(uuid.New()), rapid.IntRange(1, 3).Draw(t, "attempt")
		}
		if rapid.Bool().Draw(t, "ref") {
			e.ClientRef = rapid.SampledFrom([]string{"r1", "r2", "r3"}).Draw(t, "ref")
		}
		if e.Outcome != record.Succeeded {
			e.Code = "some_code"
		} else {
			e.InputDigest[0], e.OutputDigest[31] = 1, 2
		}
		if rapid.IntRange(0, 2).Draw(t, "content") == 0 {
			e.Content, e.ContentUntil = content(rapid.Float32().Draw(t, "x")), time.Now().Add(time.Hour).Truncate(time.Second).UTC()
		}
		d := time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "total"))
		e.Latency = record.Latency{Decode: d / 10, Queue: d / 5, Infer: d / 2, Encode: d / 7, Total: d}
		return e
	})
}

// model is what a store should hold of one tenant.
type model struct {
	entries []record.Entry
	labels  map[record.ID]map[string]record.Label
}

func (m *model) find(q record.Query) []record.Entry {
	var found []record.Entry
	for _, e := range m.entries {
		if selects(&q.Filter, &e, e.At) && (q.ID.IsZero() || q.ID == e.ID) && (q.ClientRef == "" || q.ClientRef == e.ClientRef) && (len(q.Outcomes) == 0 || slices.Contains(q.Outcomes, e.Outcome)) {
			if !q.Content {
				e.Content, e.ContentUntil = nil, time.Time{}
			}
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b record.Entry) int {
		if q.Forward {
			return compare(a.Place(), b.Place())
		}
		return compare(b.Place(), a.Place())
	})
	return found
}

func compare(a, b record.Place) int {
	if c := a.At.Compare(b.At); c != 0 {
		return c
	}
	if c := slices.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	return a.Attempt - b.Attempt
}

// selects says whether a filter has an entry that counts for a time.
func selects(f *record.Filter, e *record.Entry, at time.Time) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return (f.From.IsZero() || !at.Before(f.From)) && (f.To.IsZero() || at.Before(f.To)) &&
		is(f.Model, e.Model) && is(f.Version, e.Version) && is(f.Experiment, e.Experiment) && is(f.Arm, e.Arm)
}

func (m *model) statistics(f record.Filter, step time.Duration) []record.Rollup {
	tally := record.NewTally(record.Grouping{Step: step})
	for _, e := range m.entries {
		minute := e.At.Truncate(record.Resolution)
		if !selects(&f, &e, minute) {
			continue
		}
		sum := tally.Of(e.Series(), minute)
		sum.Count(&e)
		for name, l := range m.labels[e.ID] {
			if l.Score != nil && m.last(e.ID).Attempt == e.Attempt {
				var one sequential.Moments
				one.Add(*l.Score)
				sum.Score(name, one)
			}
		}
	}
	return tally.Rollups()
}

// last returns the last attempt at a prediction.
func (m *model) last(id record.ID) *record.Entry {
	var last *record.Entry
	for i := range m.entries {
		if e := &m.entries[i]; e.ID == id && (last == nil || e.Attempt > last.Attempt) {
			last = e
		}
	}
	return last
}

func (m *model) label(labels []record.Label) (out []record.Labelled) {
	for _, l := range labels {
		ids := map[record.ID]bool{}
		for _, e := range m.entries {
			if (!l.ID.IsZero() && l.ID == e.ID) || (l.ID.IsZero() && l.ClientRef != "" && l.ClientRef == e.ClientRef) {
				ids[e.ID] = true
			}
		}
		switch len(ids) {
		case 0:
			out = append(out, record.Unknown)
		case 1:
			for id := range ids {
				out = append(out, m.set(id, l))
			}
		default:
			out = append(out, record.Ambiguous)
		}
	}
	return out
}

func (m *model) set(id record.ID, l record.Label) record.Labelled {
	if m.labels[id] == nil {
		m.labels[id] = map[string]record.Label{}
	}
	before, had := m.labels[id][l.Name]
	m.labels[id][l.Name] = l
	if !had {
		return record.Added
	}
	return l.Became(&before)
}

// approximately forgives the rounding of sums.
var approximately = cmp.Options{cmpopts.EquateApprox(1e-9, 1e-9), cmpopts.EquateEmpty(), cmp.Transformer("buckets", func(h interface{ MarshalJSON() ([]byte, error) }) string {
	text, _ := h.MarshalJSON()
	return string(text)
})}

func drawFilter(t *rapid.T, tenant string) record.Filter {
	f := record.Filter{Tenant: tenant, Model: rapid.SampledFrom([]string{"", "a", "c"}).Draw(t, "model"), Version: rapid.SampledFrom([]string{"", "2"}).Draw(t, "version"),
		Experiment: rapid.SampledFrom([]string{"", "exp"}).Draw(t, "experiment"), Arm: rapid.SampledFrom([]string{"", "y"}).Draw(t, "arm")}
	at := func(name string) time.Time {
		if rapid.Bool().Draw(t, name) {
			return time.Time{}
		}
		return base().Add(time.Duration(rapid.IntRange(-10, 200).Draw(t, name)) * 63 * time.Second)
	}
	f.From, f.To = at("from"), at("to")
	return f
}

// drawLabel draws labels of what is there, and of what is not.
func (m *model) drawLabel() *rapid.Generator[record.Label] {
	return rapid.Custom(func(t *rapid.T) record.Label {
		l := record.Label{Name: rapid.SampledFrom([]string{"right", "revenue"}).Draw(t, "name"), Observed: base()}
		switch {
		case len(m.entries) > 0 && rapid.IntRange(0, 3).Draw(t, "known") > 0:
			l.ID = rapid.SampledFrom(m.entries).Draw(t, "of").ID
		case rapid.Bool().Draw(t, "by ref"):
			l.ClientRef = rapid.SampledFrom([]string{"r1", "r2", "r3", "r4"}).Draw(t, "ref")
		default:
			l.ID = record.NewID(base())
		}
		if rapid.IntRange(0, 4).Draw(t, "text") == 0 {
			l.Value = json.RawMessage(`"some text"`)
			return l
		}
		score := float64(rapid.IntRange(-3, 3).Draw(t, "score")) + 1e6
		l.Value, l.Score = json.RawMessage(fmt.Sprint(score)), &score
		return l
	})
}
