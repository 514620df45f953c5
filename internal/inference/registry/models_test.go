package registry

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/repo/sqliterepo"
	"sluice/internal/platform/spec"
)

// over is the bed's registry on another store.
func (b *bed) over(driver repo.Driver) {
	b.t.Helper()
	b.Service = b.process(driver)
	b.trials = b.NewTrials(b.trials.try, "runtime", "me")
}

// process is the registry of a process of its own.
func (b *bed) process(driver repo.Driver) *Service {
	b.t.Helper()
	store := repo.New(driver, repo.Config{Now: b.store.Now})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := New(store, bus, b.bucket, Config{})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// register registers a version of a model, of files that the seed makes.
func (b *bed) register(model string, seed uint64, labels map[string]string) *Version {
	b.t.Helper()
	return b.must(b.Register(b.ctx, Register{Model: model, Sources: []Source{b.source(ModelFile, onnxtest.MLP(seed, 4, 3))}, Notes: Notes{Labels: labels}}))
}

// names lists models, page by page.
func (b *bed) names(q ListModels) []string {
	b.t.Helper()
	names := []string{}
	for {
		page, err := cqrs.Ask(b.ctx, b.bus, q)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, m := range page.Items {
			names = append(names, m.Name)
		}
		if q.After = page.Next; q.After == "" {
			return names
		}
	}
}

// models returns what the versions of the store come to, and what is kept of that.
func (b *bed) models(t interface{ Fatal(...any) }) (want, got map[string]Model) {
	want, got = map[string]Model{}, map[string]Model{}
	from := b.store.Read(repo.Scope{})
	for v, err := range Versions.All(b.ctx, from, spec.Query[Version]{}) {
		if err != nil {
			t.Fatal(err)
		}
		m := want[v.Model]
		m.put(&v)
		want[v.Model] = m
	}
	for m, err := range Models.All(b.ctx, from, spec.Query[Model]{}) {
		if err != nil {
			t.Fatal(err)
		}
		got[m.Name] = Model{Stages: m.Stages, Latest: m.Latest, Changed: want[m.Name].Changed}
	}
	return want, got
}

var noRoots = cmp.Transformer("stages", func(m Model) any { return []any{m.Stages, m.Latest} })

func (b *bed) agree(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}) {
	want, got := b.models(t)
	if diff := cmp.Diff(want, got, noRoots); diff != "" {
		t.Fatalf("models are not as their versions say: -want +got\n%s", diff)
	}
}

// eachStore runs a test on the stores that need no server.
func eachStore(t *testing.T, f func(t *testing.T, b *bed)) {
	t.Run("memory", func(t *testing.T) { f(t, newBed(t)) })
	t.Run("sqlite", func(t *testing.T) {
		d, err := sqliterepo.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), sqliterepo.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		if err := d.Migrate(t.Context(), Schemas()); err != nil {
			t.Fatal(err)
		}
		b := newBed(t)
		b.over(d)
		f(t, b)
	})
}

func TestWayOfAModel(t *testing.T) { eachStore(t, wayOfAModel) }

func wayOfAModel(t *testing.T, b *bed) {
	find := func() *Model {
		t.Helper()
		m, err := cqrs.Ask(b.ctx, b.bus, FindModel{Name: "m"})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	began := b.now
	b.register("m", 1, map[string]string{"team": "a"})
	if m := find(); m.Versions() != 1 || m.Latest.Number != 1 || m.Latest.Stage != Registered || m.Latest.Labels["team"] != "a" || !m.Since.Equal(began) {
		t.Errorf("%+v", m)
	}
	b.pass(time.Minute)
	b.register("m", 2, nil)
	if err := b.trials.Round(b.ctx); err != nil {
		t.Fatal(err)
	}
	if m := find(); m.Versions() != 2 || m.Latest.Number != 2 || m.Latest.Stage != Ready || len(m.Latest.Labels) != 0 || !m.Since.Equal(began) || !m.Changed.Equal(b.now) {
		t.Errorf("%+v", m)
	}
	remove := func(n int64) {
		t.Helper()
		if err := b.Delete(b.ctx, Delete{Model: "m", Number: n, Expect: anything}); err != nil {
			t.Fatal(err)
		}
	}
	remove(2)
	if m := find(); m.Versions() != 1 || m.Latest.Number != 1 || m.Latest.Labels["team"] != "a" {
		t.Errorf("without its latest version: %+v", m)
	}
	remove(1)
	if _, err := cqrs.Ask(b.ctx, b.bus, FindModel{Name: "m"}); !errors.Is(err, repo.ErrNotFound) || len(b.names(ListModels{})) != 0 {
		t.Errorf("without versions: %v, %v", err, b.names(ListModels{}))
	}
	if _, err := b.Restore(b.ctx, Restore{Model: "m", Number: 1}); err != nil {
		t.Fatal(err)
	}
	if m := find(); m.Versions() != 1 || m.Latest.Number != 1 || !m.Since.Equal(began) {
		t.Errorf("restored: %+v", m)
	}
	v, err := b.Change(b.ctx, Note{Model: "m", Number: 1, Expect: anything, Stage: Archived, Change: func(n *Notes) { n.Labels = map[string]string{"team": "b"} }})
	if err != nil {
		t.Fatal(err)
	}
	if m := find(); m.Latest.Stage != Archived || m.Latest.Labels["team"] != "b" || m.Latest.Revision != v.Root.Version {
		t.Errorf("changed: %+v", m)
	}
	b.agree(t)
}

func TestModelsAreFound(t *testing.T) { eachStore(t, modelsAreFound) }

func modelsAreFound(t *testing.T, b *bed) {
	began := b.now
	for _, name := range []string{"Iris", "iris-large", "topic", "virus", "ÄÖ"} {
		b.register(name, 1, map[string]string{"team": string([]rune(name)[:1])})
		if b.pass(time.Hour); name != "topic" {
			continue
		}
		if err := b.trials.Round(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	for want, q := range map[string]ListModels{
		"Iris iris-large topic virus ÄÖ": {},
		"iris-large":                     {Prefix: "iris"},
		"Iris iris-large":                {Search: "IRI"},
		"virus":                          {Prefix: "v", Search: "iru"},
		"ÄÖ":                             {Search: "äö"},
		"topic":                          {Label: [2]string{"team", "t"}},
		"topic virus":                    {From: began.Add(2 * time.Hour), To: began.Add(4 * time.Hour)},
		"Iris":                           {Also: func(m *Model) bool { return m.Name == "Iris" }},
		"Iris iris-large topic":          {Stage: Ready},
		"virus ÄÖ":                       {Stage: Registered},
		"iris-large topic":               {Stage: Ready, From: began.Add(time.Minute)},
		"":                               {Label: [2]string{"team", ""}},
	} {
		for _, limit := range []int{0, 1, 2} {
			q.Limit = limit
			if got := strings.Join(b.names(q), " "); got != want {
				t.Errorf("%+v finds %q, want %q", q, got, want)
			}
		}
	}
	for _, cursor := range []string{"!", "_w", "AAAA", "Li4"} { // no Base64; no text; a name of zeros; ".."
		if _, err := cqrs.Ask(b.ctx, b.bus, ListModels{After: cursor}); fault.CodeOf(err) != "invalid_cursor" {
			t.Errorf("the cursor %q: %v", cursor, err)
		}
	}
	stranger := access.With(b.ctx, &access.Principal{Tenant: "acme", Subject: "eve"})
	if _, err := cqrs.Ask(stranger, b.bus, ListModels{}); !fault.Is(err, fault.PermissionDenied) {
		t.Errorf("without the permission: %v", err)
	}
	other := access.With(b.ctx, &access.Principal{Tenant: "other", Subject: "bob", Permissions: access.SetOf(Read)})
	if page, err := cqrs.Ask(other, b.bus, ListModels{}); err != nil || len(page.Items) != 5 {
		t.Errorf("another tenant sees %d models, %v: models are everybody's", len(page.Items), err)
	}
}

func TestVersionsAreFound(t *testing.T) { eachStore(t, versionsAreFound) }

// The versions of a model are found by what is known of them, the greatest number first,
// page by page, whatever a model is called that stands beside it.
func versionsAreFound(t *testing.T, b *bed) {
	began := b.now
	for seed := range uint64(12) {
		b.register("m", seed+1, map[string]string{"odd": fmt.Sprint(seed % 2)})
		b.register([]string{"m.x", "m-x", "mm"}[seed%3], seed+1, nil)
		if b.pass(time.Hour); seed != 7 {
			continue
		}
		if err := b.trials.Round(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(b.ctx, Delete{Model: "m", Number: 11, Expect: anything}); err != nil {
		t.Fatal(err)
	}
	third, err := Versions.Get(b.ctx, b.store.Read(repo.Scope{}), IDOf("m", 3))
	if err != nil {
		t.Fatal(err)
	}
	for want, q := range map[string]List{
		"12 10 9 8 7 6 5 4 3 2 1": {Model: "m"},
		"11":                      {Model: "m", Deleted: true},
		"12 10 9":                 {Model: "m", Stage: Registered},
		"8 7 6 5 4 3 2 1":         {Model: "m", Stage: Ready},
		"3":                       {Model: "m", SHA256: third.SHA256},
		"3 ":                      {Model: "m", Digest: third.Digest},
		"6 5 4":                   {Model: "m", From: began.Add(3 * time.Hour), To: began.Add(6 * time.Hour)},
		"12 10 8 6 4 2":           {Model: "m", Label: [2]string{"odd", "1"}},
		"8 6 4":                   {Model: "m", Label: [2]string{"odd", "1"}, Stage: Ready, From: began.Add(3 * time.Hour)},
		"4 3 2 1":                 {Model: "mm"},
		"":                        {Model: "m.", Stage: Ready},
	} {
		for _, limit := range []int{0, 1, 5} {
			q.Limit, q.After = limit, ""
			var got []string
			for {
				page, err := cqrs.Ask(b.ctx, b.bus, q)
				if err != nil {
					t.Fatalf("%+v: %v", q, err)
				}
				for _, v := range page.Items {
					got = append(got, fmt.Sprint(v.Number))
				}
				if q.After = page.Next; q.After == "" {
					break
				}
			}
			if strings.Join(got, " ") != strings.TrimSpace(want) {
				t.Errorf("%+v finds %q, want %q", q, got, want)
			}
		}
	}
	b.pass(365 * 24 * time.Hour)
	if n, err := b.Sweep(b.ctx); n != 1 || err != nil {
		t.Errorf("%d swept, %v; one was deleted a year ago", n, err)
	}
}

// A search that finds little looks at so many models for a page, and goes on behind them.
func TestSearchesAreBounded(t *testing.T) {
	b := newBed(t)
	const n = maxExamined + 100
	for i := range n {
		err := b.store.Do(b.ctx, repo.Scope{}, func(ctx context.Context, tx *repo.Tx) error {
			m := Model{Name: fmt.Sprintf("m%05d", i), Stages: map[Stage][]int64{Ready: {1}}}
			m.ID = ledgerID(m.Name)
			return Models.Add(ctx, tx, &m)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	last := fmt.Sprintf("m%05d", n-1)
	page, err := cqrs.Ask(b.ctx, b.bus, ListModels{Search: last})
	if err != nil || len(page.Items) != 0 || page.Next == "" {
		t.Errorf("%d items, next %q, %v", len(page.Items), page.Next, err)
	}
	if got := b.names(ListModels{Search: last}); !slices.Equal(got, []string{last}) {
		t.Errorf("found %q", got)
	}
}

// Who goes through the pages while models are registered sees each that was there before
// once, in order.
func TestPagesAreStable(t *testing.T) { eachStore(t, pagesAreStable) }

func pagesAreStable(t *testing.T, b *bed) {
	var before []string
	for i := range 20 {
		before = append(before, fmt.Sprintf("m%02d", i))
		b.register(before[i], 1, nil)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, _, err := b.Register(b.ctx, Register{Model: fmt.Sprintf("m%02d-new", i), Sources: []Source{b.source(ModelFile, mlp)}}); err != nil {
				t.Error(err)
			}
		})
	}
	seen := b.names(ListModels{Limit: 3})
	wg.Wait()
	if !slices.IsSorted(seen) || len(slices.Compact(slices.Clone(seen))) != len(seen) {
		t.Errorf("not in order: %q", seen)
	}
	if old := slices.DeleteFunc(seen, func(name string) bool { return strings.HasSuffix(name, "-new") }); !slices.Equal(old, before) {
		t.Errorf("saw %q", old)
	}
	if all := b.names(ListModels{Limit: 7}); len(all) != 40 {
		t.Errorf("%d models at the end", len(all))
	}
	b.agree(t)
}

// between is a store that does something else before some of its operations.
type between struct {
	repo.Driver
	n  int // operations so far
	at map[int]func()
}

func (d *between) before() {
	d.n++
	if f := d.at[d.n]; f != nil {
		delete(d.at, d.n)
		f()
	}
}

func (d *between) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	d.before()
	return d.Driver.Get(ctx, key)
}

func (d *between) Commit(ctx context.Context, c *repo.Changeset) error {
	d.before()
	return d.Driver.Commit(ctx, c)
}

// Whatever else is done to versions between any two operations on the store: the model is
// as they say in the end.
func TestModelsAgreeWithVersions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t)
		d := &between{Driver: memrepo.New(memrepo.Config{OneAggregate: true})}
		b.over(d)
		for seed := range uint64(2) {
			b.register("m", seed, nil)
		}
		if err := b.trials.Round(b.ctx); err != nil {
			rt.Fatal(err)
		}
		draw := func(who string) func() {
			what, n := rapid.IntRange(0, 3).Draw(rt, who), int64(rapid.IntRange(1, 2).Draw(rt, "version"))
			p := b.process(d) // in one, who met a conflict would wait for who called it
			return func() {   // what fails changes nothing
				switch what {
				case 0:
					_ = p.Delete(b.ctx, Delete{Model: "m", Number: n, Expect: anything})
				case 1:
					_, _ = p.Restore(b.ctx, Restore{Model: "m", Number: n})
				case 2:
					_, _ = p.Change(b.ctx, Note{Model: "m", Number: n, Expect: anything, Stage: Archived, Change: func(*Notes) {}})
				default:
					_, _ = p.Change(b.ctx, Note{Model: "m", Number: n, Expect: anything, Change: func(n *Notes) { n.Labels = map[string]string{"by": who} }})
				}
			}
		}
		for range 3 {
			d.n, d.at = 0, map[int]func(){}
			for _, at := range rapid.SliceOfNDistinct(rapid.IntRange(1, 25), 1, 4, rapid.ID).Draw(rt, "at") {
				d.at[at] = draw(fmt.Sprint(at))
			}
			draw("one")()
			d.at = nil
			b.agree(rt)
		}
	})
}

// lost is a store to which what models come to is lost.
type lost struct {
	repo.Driver
	is bool
}

func (l *lost) Commit(ctx context.Context, c *repo.Changeset) error {
	if l.is && slices.ContainsFunc(c.Puts, func(p repo.Put) bool { return p.Kind == Models.Name }) {
		return fault.New(fault.Unavailable, "the process is about to end")
	}
	return l.Driver.Commit(ctx, c)
}

// A process that ended behind a version's commit, and one that knew nothing of models,
// leave what Reconcile mends.
func TestModelsAreReconciled(t *testing.T) {
	b := newBed(t)
	d := &lost{memrepo.New(memrepo.Config{OneAggregate: true}), false}
	b.over(d)
	b.register("gone", 1, nil)
	b.register("changed", 1, nil)
	began := b.now
	d.is = true
	b.pass(time.Hour)
	for seed := range uint64(3) {
		b.register("unknown", seed, map[string]string{"a": "b"})
	}
	b.register("changed", 2, nil)
	if err := b.Delete(b.ctx, Delete{Model: "gone", Number: 1, Expect: anything}); err != nil {
		t.Fatal(err)
	}
	if got := b.names(ListModels{}); !slices.Equal(got, []string{"changed", "gone"}) {
		t.Fatalf("nothing is lost: %q", got)
	}
	if err := b.Reconcile(b.ctx); !fault.Is(err, fault.Unavailable) {
		t.Errorf("it cannot be mended yet: %v", err)
	}
	d.is = false
	for range 2 { // what is mended stays
		if err := b.Reconcile(b.ctx); err != nil {
			t.Fatal(err)
		}
		b.agree(t)
	}
	m, err := cqrs.Ask(b.ctx, b.bus, FindModel{Name: "unknown"})
	if err != nil || m.Versions() != 3 || m.Latest.Number != 3 || m.Latest.Labels["a"] != "b" || !m.Since.Equal(began.Add(time.Hour)) {
		t.Errorf("%+v %v", m, err)
	}
}
