// Package recordtest is the contract of record.Store: what every store of the
// prediction log does, and how fast.
package recordtest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
)

// Suite is the contract, for stores that Open opens anew and Second opens again.
type Suite struct {
	Open   func(testing.TB) record.Store
	Second func(testing.TB, record.Store) record.Store
}

// Run checks a store.
func (s Suite) Run(t *testing.T) {
	t.Run("model", s.testModel)
	t.Run("tenants", s.testTenants)
	t.Run("expiry", s.testExpiry)
	t.Run("several", s.testSeveral)
	t.Run("invalid", s.testInvalid)
	t.Run("odd values", s.testOddValues)
	t.Run("groups", s.testGroups)
	t.Run("labels", s.testLabels)
	t.Run("labels between attempts", s.testLabelsBetweenAttempts)
	t.Run("labels alike", s.testLabelsAlike)
	t.Run("labels by name", s.testLabelsByName)
	t.Run("labels that do not fit", s.testLabelsThatDoNotFit)
	t.Run("scores", s.testScores)
	t.Run("identity", s.testIdentity)
	t.Run("content", s.testContent)
	t.Run("erasure", s.testErasure)
}

// entries compares them as they are kept.
var entries = cmpopts.IgnoreUnexported(record.Entry{})

// base is when the tests' predictions are: hours ago, so that none expires.
func base() time.Time { return time.Now().UTC().Add(-5 * time.Hour).Truncate(time.Hour) }

// someone is a tenant that no other test has.
func someone() string { return "ten_" + uuid.NewString() }

// testModel appends, labels and reads at random, beside a model in memory.
func (s Suite) testModel(t *testing.T) {
	store := s.Open(t)
	rapid.Check(t, func(t *rapid.T) {
		tenant := someone()
		m := &model{labels: map[record.ID]map[string]record.Label{}}
		one := generator(tenant)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var batch []*record.Entry
				for _, e := range rapid.SliceOfN(one, 0, 20).Draw(t, "new") {
					m.entries = append(m.entries, e)
					batch = append(batch, &e)
					if e.Attempt > 0 && rapid.Bool().Draw(t, "retried") {
						e := e // the next attempt, maybe of another version
						e.Attempt, e.At, e.Version = e.Attempt+1, e.At.Add(time.Second), "2"
						m.entries = append(m.entries, e)
						batch = append(batch, &e)
					}
				}
				for range rapid.IntRange(0, 3).Draw(t, "repeated") { // also of the same batch
					if len(m.entries) > 0 {
						e := rapid.SampledFrom(m.entries).Draw(t, "again")
						batch = append(batch, &e)
					}
				}
				if err := store.Append(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			},
			"label": func(t *rapid.T) {
				labels := rapid.SliceOfN(m.drawLabel(), 1, 5).Draw(t, "labels")
				got, err := store.Label(t.Context(), tenant, labels, time.Now())
				if want := m.label(labels); err != nil || !slices.Equal(got, want) {
					t.Fatalf("labelling came to %v, %v, want %v", got, err, want)
				}
			},
			"find": func(t *rapid.T) {
				q := record.Query{Filter: drawFilter(t, tenant), Forward: rapid.Bool().Draw(t, "forward"), Content: rapid.Bool().Draw(t, "content"), Limit: rapid.IntRange(1, 7).Draw(t, "limit"),
					Outcomes: rapid.SampledFrom([][]record.Outcome{nil, {record.Succeeded}, {record.Failed, record.Refused}}).Draw(t, "outcomes")}
				if len(m.entries) > 0 && rapid.IntRange(0, 2).Draw(t, "one") == 0 {
					q.ID = rapid.SampledFrom(m.entries).Draw(t, "id").ID
				}
				if rapid.IntRange(0, 3).Draw(t, "by ref") == 0 {
					q.ClientRef = "r1"
				}
				var got []record.Entry
				for {
					page, err := store.Find(t.Context(), q)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, page...)
					if len(page) < q.Limit {
						break
					}
					q.After = page[len(page)-1].Place()
				}
				if diff := cmp.Diff(m.find(q), got, cmpopts.EquateEmpty(), entries); diff != "" {
					t.Fatalf("%+v:\n%s", q, diff)
				}
			},
			"count": func(t *rapid.T) {
				f := drawFilter(t, tenant)
				if got, err := store.Count(t.Context(), f); err != nil || got != int64(len(m.find(record.Query{Filter: f}))) {
					t.Fatalf("%+v counts %d, %v, want %d", f, got, err, len(m.find(record.Query{Filter: f})))
				}
			},
			"statistics": func(t *rapid.T) {
				f, step := drawFilter(t, tenant), rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour}).Draw(t, "step")
				got, err := store.Statistics(t.Context(), f, record.Grouping{Step: step})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(m.statistics(f, step), scored(got), approximately); diff != "" {
					t.Fatalf("%+v by %s:\n%s", f, step, diff)
				}
			},
		})
	})
}

// scored leaves out sums of no scores.
func scored(rollups []record.Rollup) []record.Rollup {
	for i := range rollups {
		for name, m := range rollups[i].Scores {
			if m.N == 0 {
				delete(rollups[i].Scores, name)
			}
		}
	}
	return rollups
}

// made is an entry of a tenant, n milliseconds after from.
func made(tenant string, from time.Time, n int) *record.Entry {
	at := from.Add(time.Duration(n) * time.Millisecond)
	return &record.Entry{ID: record.NewID(at), At: at, Tenant: tenant, Model: "m", Version: "1", Rows: 1, Latency: record.Latency{Total: time.Duration(n)}}
}

func batch(tenant string, from time.Time, n int) []*record.Entry {
	list := make([]*record.Entry, n)
	for i := range list {
		list[i] = made(tenant, from, i)
	}
	return list
}

// count returns how many entries a tenant has, as the log and as the statistics say.
func count(t testing.TB, store record.Store, tenant string) (entries, counted int) {
	t.Helper()
	q := record.Query{Filter: record.Filter{Tenant: tenant}, Limit: record.MaxLimit}
	for {
		page, err := store.Find(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		entries += len(page)
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1].Place()
	}
	if n, err := store.Count(t.Context(), q.Filter); err != nil || n != int64(entries) {
		t.Errorf("the store counts %d entries, and has %d, %v", n, entries, err)
	}
	rollups, err := store.Statistics(t.Context(), q.Filter, record.Grouping{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rollups {
		for _, n := range r.Outcomes {
			counted += int(n)
		}
	}
	return entries, counted
}

// A tenant sees, and labels, nothing of another's, even by id.
func (s Suite) testTenants(t *testing.T) {
	store, mine, other := s.Open(t), someone(), someone()
	e := made(mine, base(), 1)
	e.ClientRef = "ref"
	if err := store.Append(t.Context(), []*record.Entry{e}); err != nil {
		t.Fatal(err)
	}
	found, err := store.Find(t.Context(), record.Query{Filter: record.Filter{Tenant: other}, ID: e.ID, Limit: 1})
	if err != nil || len(found) > 0 {
		t.Errorf("another tenant finds %v, %v", found, err)
	}
	if n, counted := count(t, store, other); n+counted > 0 {
		t.Errorf("another tenant has %d entries and counts %d", n, counted)
	}
	got, err := store.Label(t.Context(), other, []record.Label{{ID: e.ID, Name: "n"}, {ClientRef: "ref", Name: "n"}}, time.Now())
	if err != nil || !slices.Equal(got, []record.Labelled{record.Unknown, record.Unknown}) {
		t.Errorf("another tenant labels it: %v, %v", got, err)
	}
}

// What is old is forgotten, and nothing else; statistics outlive entries.
func (s Suite) testExpiry(t *testing.T) {
	store, tenant := s.Open(t), someone()
	old, late := base().Add(-72*time.Hour), base()
	for _, from := range []time.Time{old, late} {
		if err := store.Append(t.Context(), batch(tenant, from, 300)); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Expire(t.Context(), late, old.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n, counted := count(t, store, tenant); n != 300 || counted != 600 {
		t.Errorf("%d entries are left and %d counted, want 300 and 600", n, counted)
	}
	if err := store.Expire(t.Context(), late, late); err != nil {
		t.Fatal(err)
	}
	if n, counted := count(t, store, tenant); n != 300 || counted != 300 {
		t.Errorf("%d entries are left and %d counted, want 300 each", n, counted)
	}
}

// Several processes append at once, each entry counts once.
func (s Suite) testSeveral(t *testing.T) {
	first, tenant := s.Open(t), someone()
	second := s.Second(t, first)
	const writers, batches, size = 4, 5, 100
	var wg sync.WaitGroup
	for w := range writers {
		store := []record.Store{first, second}[w%2]
		wg.Go(func() {
			for i := range batches {
				if err := store.Append(t.Context(), batch(tenant, base().Add(time.Duration(w*batches+i)*time.Second), size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, counted := count(t, second, tenant); n != writers*batches*size || counted != n {
		t.Errorf("%d entries, %d counted, want %d", n, counted, writers*batches*size)
	}
}

// An entry of nobody, or without a time or a name, is refused, with its batch.
func (s Suite) testInvalid(t *testing.T) {
	store, tenant := s.Open(t), someone()
	for name, spoil := range map[string]func(*record.Entry){
		"no tenant": func(e *record.Entry) { e.Tenant = "" },
		"no id":     func(e *record.Entry) { e.ID = record.ID{} },
		"no time":   func(e *record.Entry) { e.At = time.Time{} },
	} {
		list := batch(tenant, base(), 2)
		spoil(list[1])
		if err := store.Append(t.Context(), list); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, counted := count(t, store, tenant); n+counted > 0 {
		t.Errorf("%d entries of refused batches are there, %d counted", n, counted)
	}
	if err := store.Append(t.Context(), nil); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

// Texts and numbers come back as they were.
func (s Suite) testOddValues(t *testing.T) {
	store, tenant := s.Open(t), someone()
	e := made(tenant, base(), 5)
	e.Model, e.Version, e.Arm, e.Experiment, e.Code, e.ClientRef = "a'b\"\\c\x00d\n", "é\u2028", "?", "{x:String}", "\t';--", "\xff\xfe"
	e.Outcome, e.Rows, e.BatchRows, e.Attempt, e.Steps = record.Cancelled, math.MaxInt32, math.MaxInt32, math.MaxInt32, math.MaxInt32
	e.Latency = record.Latency{Decode: math.MaxInt64, Queue: 1, Infer: math.MaxInt64 - 1, Encode: 0, Total: math.MaxInt64}
	for i := range e.InputDigest {
		e.InputDigest[i], e.OutputDigest[i] = byte(i), 0xff-byte(i)
	}
	if err := store.Append(t.Context(), []*record.Entry{e}); err != nil {
		t.Fatal(err)
	}
	got, err := store.Find(t.Context(), record.Query{Filter: record.Filter{Tenant: tenant, Model: e.Model}, ClientRef: e.ClientRef, Limit: 5})
	if diff := cmp.Diff([]record.Entry{*e}, got, entries); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// Labels that come late, again or changed count once each, as they were last.
func (s Suite) testLabels(t *testing.T) {
	store, tenant := s.Open(t), someone()
	list := batch(tenant, base(), 100)
	if err := store.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	observed := base()
	put := func(of func(i int) float64) (out []record.Labelled) {
		var labels []record.Label
		for i, e := range list {
			score := of(i)
			labels = append(labels, record.Label{ID: e.ID, Name: "right", Value: json.RawMessage(fmt.Sprint(score)), Score: &score, Observed: observed})
		}
		out, err := store.Label(t.Context(), tenant, labels, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Compact(out)
	}
	odd := func(i int) float64 { return float64(i % 2) }
	if got := put(func(int) float64 { return 0 }); !slices.Equal(got, []record.Labelled{record.Added}) {
		t.Errorf("new labels: %v", got)
	}
	put(odd)
	if got := put(odd); !slices.Equal(got, []record.Labelled{record.Unchanged}) {
		t.Errorf("repeated labels: %v", got)
	}
	rollups, err := store.Statistics(t.Context(), record.Filter{Tenant: tenant}, record.Grouping{})
	if err != nil || len(rollups) != 1 {
		t.Fatalf("%+v, %v", rollups, err)
	}
	if m := rollups[0].Scores["right"]; m.N != 100 || m.Mean != 0.5 || math.Abs(m.M2-25) > 1e-9 {
		t.Errorf("%+v", m)
	}
}
