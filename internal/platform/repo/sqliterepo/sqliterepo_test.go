package sqliterepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/repotest"
	"sluice/internal/platform/spec"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childStore); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1) // it is killed
	}
	goleak.VerifyTestMain(m)
}

// stored is a driver that knows its file.
type stored struct {
	*Driver
	path string
}

func openPath(t testing.TB, path string, cfg Config) *stored {
	t.Helper()
	d, err := Open(t.Context(), "sqlite:"+path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &stored{d, path}
}

func open(t testing.TB) repo.Driver {
	t.Helper()
	return openPath(t, filepath.Join(t.TempDir(), "store.db"), Config{})
}

func again(t testing.TB, d repo.Driver) repo.Driver {
	t.Helper()
	return openPath(t, d.(*stored).path, Config{})
}

func TestContract(t *testing.T) {
	repotest.Suite{Open: open, Reopen: again, Second: again}.Run(t)
}

type itemID string

// item is the aggregate of the tests that go beyond the contract.
type item struct {
	aggregate.Root[itemID]
	Name string `json:"name"`
	Rank int64  `json:"rank"`
}

type made struct{ Rank int64 }

// EventType implements aggregate.Event.
func (made) EventType() string { return "item.made" }

var (
	itemName = spec.TextField("name", func(i *item) string { return i.Name })
	itemRank = spec.IntField("rank", func(i *item) int64 { return i.Rank })

	items = repo.Kind[itemID, item]{
		Name: "items", Root: func(i *item) *aggregate.Root[itemID] { return &i.Root }, Columns: []spec.Column[item]{itemName, itemRank},
	}

	who = repo.Scope{Tenant: "ten_1", Actor: "usr_1"}
)

func newItem(id string, rank int64) *item {
	i := &item{Root: aggregate.Root[itemID]{ID: itemID(id)}, Name: "name of " + id, Rank: rank}
	i.Record(made{rank})
	return i
}

// add stores an item, with its event.
func add(ctx context.Context, s *repo.Store, id string) error {
	return s.Do(ctx, who, func(ctx context.Context, tx *repo.Tx) error { return items.Add(ctx, tx, newItem(id, 1)) })
}

// newStore opens a migrated store of items.
func newStore(t testing.TB, path string, cfg Config) (*stored, *repo.Store) {
	t.Helper()
	d := openPath(t, path, cfg)
	if err := d.Migrate(t.Context(), []*repo.Schema{items.Schema()}); err != nil {
		t.Fatal(err)
	}
	return d, repo.New(d, repo.Config{})
}

func storePath(t testing.TB) string { t.Helper(); return filepath.Join(t.TempDir(), "store.db") }

func TestOnlyTheUserReadsTheFiles(t *testing.T) {
	path := storePath(t)
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, store := newStore(t, path, Config{})
	if err := add(t.Context(), store, "a"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + end)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", end, info, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{"", "sqlite:", ":memory:", "sqlite::memory:", "a\x00b"} {
		if _, err := Open(t.Context(), address, Config{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none", "store.db"), Config{}); fault.CodeOf(err) != "storage_failed" {
		t.Errorf("a folder that is not there: %v", err)
	}
	odd := filepath.Join(t.TempDir(), "a?mode=memory#b %41.db")
	if _, store := newStore(t, odd, Config{}); add(t.Context(), store, "a") != nil {
		t.Error("an odd name")
	}
	if info, err := os.Stat(odd); err != nil || info.Size() == 0 {
		t.Errorf("an odd name was taken for another: %v, %v", info, err)
	}
}

func TestDamagedFile(t *testing.T) {
	path := storePath(t)
	if err := os.WriteFile(path, []byte(strings.Repeat("no store at all. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Config{}); !fault.Is(err, fault.Internal) || fault.CodeOf(err) != "store_corrupt" {
		t.Errorf("got %v", err)
	}
}

// explain returns how SQLite goes about a page.
func explain(t *testing.T, d *stored, q spec.Query[item], after *repo.Position) string {
	t.Helper()
	st, err := find(items.Schema(), &repo.FindQuery{Tenant: "t", Where: q.Where.Expr(), Order: q.Order.Field, Descending: q.Order.Descending, After: after, Limit: 51})
	if err != nil {
		t.Fatal(err)
	}
	st.SQL = "EXPLAIN QUERY PLAN " + st.SQL
	var steps []string
	err = d.readers.Query(t.Context(), st, func(row []value) error {
		steps = append(steps, fmt.Sprint(row[len(row)-1]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "; ")
}

// A page begins where an index says, at any depth, and nothing is sorted.
func TestPagesAreSeeks(t *testing.T) {
	d, _ := newStore(t, storePath(t), Config{})
	for _, test := range []struct {
		q    spec.Query[item]
		want string
	}{
		{spec.Query[item]{}, "PRIMARY KEY (tenant=? AND id>?)"},
		{spec.Query[item]{Order: spec.Order[item]{Descending: true}}, "PRIMARY KEY (tenant=? AND id<?)"},
		{spec.Query[item]{Order: itemName.Asc()}, "INDEX r_items__c_name (tenant=? AND (c_name,id)>(?,?))"},
		{spec.Query[item]{Order: itemName.Desc()}, "INDEX r_items__c_name (tenant=? AND (c_name,id)<(?,?))"},
		{spec.Query[item]{Order: itemRank.Desc()}, "INDEX r_items__c_rank (tenant=? AND (c_rank,id)<(?,?))"},
		{spec.Query[item]{Where: itemName.Eq("x")}, "INDEX r_items__c_name (tenant=? AND c_name=? AND id>?)"},
		{spec.Query[item]{Where: itemName.StartsWith("x"), Order: itemName.Asc()}, "INDEX r_items__c_name (tenant=? AND "},
	} {
		value := spec.TextValue("x")
		if test.q.Order.Field == "rank" {
			value = spec.IntValue(1)
		}
		got := explain(t, d, test.q, &repo.Position{Value: value, ID: "y"})
		if !strings.Contains(got, test.want) || strings.Contains(got, "TEMP B-TREE") || strings.Contains(got, "SCAN") {
			t.Errorf("order %+v: %s, expected %s", test.q.Order, got, test.want)
		}
	}
}

func TestTooManyValues(t *testing.T) {
	_, store := newStore(t, storePath(t), Config{})
	_, err := items.Find(t.Context(), store.Read(who), spec.Query[item]{Where: itemRank.In(slices.Repeat([]int64{1}, maxArguments+1)...)})
	if !errors.Is(err, spec.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// What was published is found again though much is pending before and behind it.
func TestPublishedOutOfOrder(t *testing.T) {
	d, store := newStore(t, storePath(t), Config{})
	for i := range 10 {
		if err := add(t.Context(), store, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := d.Pending(t.Context(), 0, 100)
	if err != nil || len(all) != 10 {
		t.Fatal(all, err)
	}
	if err := d.Published(t.Context(), 0, []repo.Message{all[7], all[2], {ID: "unknown"}}, store.Now()); err != nil {
		t.Fatal(err)
	}
	left, err := d.Pending(t.Context(), 0, 100)
	for i, m := range slices.Delete(slices.Delete(slices.Clone(all), 7, 8), 2, 3) {
		if err != nil || len(left) != 8 || left[i].ID != m.ID {
			t.Fatalf("left are %v, %v", left, err)
		}
	}
}

// What is first in the outbox is marked by one statement, and nothing else is; more than
// one asks for is not counted.
func TestPublishedInOrder(t *testing.T) {
	d, store := newStore(t, storePath(t), Config{})
	for i := range 10 {
		if err := add(t.Context(), store, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := d.Pending(t.Context(), 0, 4)
	if err != nil || len(all) != 4 {
		t.Fatal(all, err)
	}
	if err := d.Published(t.Context(), 0, append(slices.Clone(all), repo.Message{ID: "unknown"}), store.Now()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := d.Backlog(t.Context(), 0); n != 6 || err != nil {
		t.Errorf("%d are left, %v", n, err)
	}
	left, err := d.Pending(t.Context(), 0, 100)
	if err != nil || len(left) != 6 || slices.ContainsFunc(left, func(m repo.Message) bool { return m.ID == all[3].ID }) {
		t.Errorf("left are %v, %v", left, err)
	}
	n, err := items.CountTo(t.Context(), store.Read(who), spec.Spec[item]{}, 3)
	if n != 3 || err != nil {
		t.Errorf("counted %d, %v", n, err)
	}
	if n, err = items.CountTo(t.Context(), store.Read(who), spec.Spec[item]{}, 100); n != 10 || err != nil {
		t.Errorf("counted %d of all, %v", n, err)
	}
}
