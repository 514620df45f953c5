//go:build services

package scyllarepo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cql/cqltest"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

type itemID string

type item struct {
	aggregate.Root[itemID]
	Colour string `json:"colour"`
	N      int64  `json:"n"`
}

type counted struct {
	N int64 `json:"n"`
}

func (counted) EventType() string { return "item.counted" }

var (
	colour = spec.TextField("colour", func(i *item) string { return i.Colour })
	items  = repo.Kind[itemID, item]{Name: "items", Root: func(i *item) *aggregate.Root[itemID] { return &i.Root },
		Columns: []spec.Column[item]{colour}, Keep: true}
	scope = repo.Scope{Tenant: "ten_1", Actor: "usr_1"}
)

func ready(t *testing.T, address string, cfg Config) (*Driver, *repo.Store) {
	t.Helper()
	d := openAt(t, address, cfg)
	if err := d.Migrate(t.Context(), []*repo.Schema{items.Schema()}); err != nil {
		t.Fatal(err)
	}
	return d, repo.New(d, repo.Config{})
}

func add(ctx context.Context, s *repo.Store, id itemID, colour string) error {
	return s.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		i := &item{Root: aggregate.Root[itemID]{ID: id}, Colour: colour}
		i.Record(counted{0})
		return items.Add(ctx, tx, i)
	})
}

func count(ctx context.Context, tx *repo.Tx, id itemID) error {
	_, err := items.Update(ctx, tx, id, func(i *item) error {
		i.N++
		i.Record(counted{i.N})
		return nil
	})
	return err
}

func paint(ctx context.Context, s *repo.Store, id itemID, colour string) error {
	return s.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		_, err := items.Update(ctx, tx, id, func(i *item) error { i.Colour = colour; i.Record(counted{i.N}); return nil })
		return err
	})
}

// pendingOf returns the sequences of an item's messages in the outbox.
func pendingOf(t *testing.T, d *Driver, id itemID) []int64 {
	t.Helper()
	var out []int64
	for n := range d.Shards() {
		all, err := d.Pending(t.Context(), n, 10000)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.Key.ID == string(id) {
				out = append(out, m.Sequence)
			}
		}
	}
	return out
}

// The answers to commits are lost, and sometimes the commits: every one happens
// once, with its message, and nobody is told otherwise.
func TestLostAnswers(t *testing.T) {
	p := newProxy(t)
	d, s := ready(t, cqltest.Fresh(t), Config{tune: p.through})
	ctx := t.Context()
	for i := range 3 {
		if err := add(ctx, s, itemID(fmt.Sprint("shared", i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	p.losing(0.3)
	const workers, each = 6, 20
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := range each {
				for what, do := range map[string]func() error{
					"count": func() error {
						return s.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
							return count(ctx, tx, itemID(fmt.Sprint("shared", w%3)))
						})
					},
					"add": func() error { return add(ctx, s, itemID(fmt.Sprintf("new%d_%d", w, n)), "") },
				} {
					if err := insist(do); err != nil {
						t.Errorf("worker %d, round %d, %s: %v", w, n, what, err)
					}
				}
			}
		})
	}
	wg.Wait()
	p.losing(0)
	for i := range 3 {
		id := itemID(fmt.Sprint("shared", i))
		got, err := items.Get(ctx, s.Read(scope), id)
		if err != nil || got.N != 2*each || got.Version != 2*each+1 {
			t.Errorf("%s was counted %d times in %d versions, expected %d; %v", id, got.N, got.Version, 2*each, err)
		}
		want := make([]int64, 2*each+1)
		for i := range want {
			want[i] = int64(i + 1)
		}
		if got := pendingOf(t, d, id); !slices.Equal(got, want) {
			t.Errorf("%s has the messages %v", id, got)
		}
	}
	if known := testutil.ToFloat64(d.metrics.unknown.WithLabelValues("true")); p.lost() < 20 || known < 10 {
		t.Errorf("%d connections were cut, %.0f outcomes unknown at first: that proves little", p.lost(), known)
	}
	if n := testutil.ToFloat64(d.metrics.unknown.WithLabelValues("false")); n != 0 {
		t.Errorf("%.0f outcomes stayed unknown", n)
	}
}

// insist repeats what certainly did not happen, as its connection was cut before
// the batch was sent.
func insist(do func() error) error {
	for {
		err := do()
		if !fault.Is(err, fault.Unavailable) || errors.Is(err, repo.ErrOutcomeUnknown) {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Where no answer ever comes, Commit says so in time.
func TestOutcomeUnknown(t *testing.T) {
	p := newProxy(t)
	_, s := ready(t, cqltest.Fresh(t), Config{tune: p.through, CommitTimeout: 3 * time.Second})
	p.losing(1)
	if err := add(t.Context(), s, "a", ""); !errors.Is(err, repo.ErrOutcomeUnknown) || fault.CodeOf(err) != "outcome_unknown" {
		t.Errorf("%v, expected ErrOutcomeUnknown", err)
	}
	p.losing(0)
	if err := add(t.Context(), s, "b", ""); err != nil {
		t.Error(err)
	}
}

func TestUnreachable(t *testing.T) {
	p := newProxy(t)
	d, s := ready(t, cqltest.Fresh(t), Config{tune: p.through, CommitTimeout: 5 * time.Second})
	ctx := t.Context()
	if err := add(ctx, s, "a", "red"); err != nil {
		t.Fatal(err)
	}
	p.down()
	for what, f := range map[string]func() error{
		"Ping":    func() error { return d.Ping(ctx) },
		"Get":     func() error { _, err := items.Get(ctx, s.Read(scope), "a"); return err },
		"Find":    func() error { _, err := items.Find(ctx, s.Read(scope), spec.Query[item]{}); return err },
		"Commit":  func() error { return add(ctx, s, "b", "red") },
		"History": func() error { _, err := items.History(ctx, s.Read(scope), "a", 0, 1); return err },
		"Pending": func() error { _, err := d.Pending(ctx, 0, 1); return err },
		"Backlog": func() error { _, _, err := d.Backlog(ctx, 0); return err },
		"Trim":    func() error { _, err := d.Trim(ctx, 0, time.Now(), 1); return err },
		"Purge":   func() error { _, err := d.Purge(ctx, items.Name, time.Now(), 1); return err },
	} {
		if err := f(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s of a store that cannot be reached: %v, expected Unavailable", what, err)
		}
	}
	if _, err := Open(ctx, cqltest.Fresh(t), Config{tune: p.through}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Open: %v, expected Unavailable", err)
	}
	p.up(t)
	eventually(t, "the store is used again", func() bool { return d.Ping(ctx) == nil })
	eventually(t, "commits go through", func() bool { return add(ctx, s, itemID(uuid.NewString()), "red") == nil })
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !check(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

var errCrash = errors.New("the process ended here")

// coloured returns the ids of the items of a colour.
func coloured(t *testing.T, s *repo.Store, c string) (ids []itemID) {
	t.Helper()
	page, err := items.Find(t.Context(), s.Read(scope), spec.Query[item]{Where: colour.Eq(c)})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range page.Items {
		ids = append(ids, i.ID)
	}
	return ids
}

// entriesOf returns how many entries lead to items under a colour.
func entriesOf(t *testing.T, d *Driver, c string) int {
	t.Helper()
	n := 0
	for b := range buckets {
		found, err := d.stretchAll(t.Context(), entry{tenant: scope.Tenant, kind: items.Name, field: "colour", live: true, bucket: b},
			span{from: place{value: c}, to: beyond(c), closed: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		n += len(found)
	}
	return n
}

// A process ends before it commits, or after it has but before it has tidied up:
// queries are right at once, and what is left over goes when it is met.
func TestCrashes(t *testing.T) {
	address := cqltest.Fresh(t)
	var now atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(now.Load())) }
	d, s := ready(t, address, Config{Now: clock})
	early, dies := ready(t, address, Config{Now: clock, beforeBatch: func() error { return errCrash }})
	_, late := ready(t, address, Config{Now: clock, afterCommit: func(error) bool { return false }})
	ctx := t.Context()
	if err := add(ctx, s, "a", "red"); err != nil {
		t.Fatal(err)
	}
	if err := paint(ctx, dies, "a", "blue"); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	if n := entriesOf(t, d, "blue"); n != 1 {
		t.Fatalf("the crash left %d entries, expected 1", n)
	}
	if red, blue := coloured(t, s, "red"), coloured(t, s, "blue"); len(red) != 1 || len(blue) != 0 {
		t.Errorf("before the commit: red %v, blue %v", red, blue)
	}
	// It stays while that version may still be committed.
	if err := paint(ctx, late, "a", "green"); err != nil {
		t.Fatal(err)
	}
	if n := entriesOf(t, d, "red"); n != 1 {
		t.Fatalf("the crash left %d entries, expected 1", n)
	}
	if red, green := coloured(t, s, "red"), coloured(t, s, "green"); len(red) != 0 || len(green) != 1 {
		t.Errorf("after the commit: red %v, green %v", red, green)
	}
	eventually(t, "the entry of the past goes", func() bool { return entriesOf(t, d, "red") == 0 })
	if blue := coloured(t, s, "blue"); len(blue) != 0 {
		t.Errorf("after the commit: blue %v", blue)
	}
	eventually(t, "the entry of what was not committed goes", func() bool { return entriesOf(t, d, "blue") == 0 })
	if n := testutil.ToFloat64(d.metrics.stray); n != 3 {
		t.Errorf("%.0f stray entries were met, expected 3", n)
	}
	// And back: a removal for an old version does not hide a newer entry.
	for _, c := range []string{"red", "blue", "red", "green", "red"} {
		if err := paint(ctx, s, "a", c); err != nil {
			t.Fatal(err)
		}
		if ids := coloured(t, s, c); len(ids) != 1 {
			t.Errorf("painted %s, and not found: %v", c, ids)
		}
	}

	// The hint of a commit that never was stays while it may yet come, and goes.
	if err := add(ctx, dies, "never", "red"); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	shard := shardOf(repo.Key{Tenant: scope.Tenant, Kind: items.Name, ID: "never"})
	left := func() int { return hintsAt(t, d, shard, "never") }
	if got := pendingOf(t, d, "never"); len(got) != 0 || left() != 1 {
		t.Errorf("messages %v and %d hints of what was not committed", got, left())
	}
	now.Store(int64(2*early.cfg.CommitTimeout + 2*time.Minute))
	if got := pendingOf(t, d, "never"); len(got) != 0 || left() != 0 {
		t.Errorf("later, messages %v and %d hints of what was not committed", got, left())
	}
	if got := pendingOf(t, d, "a"); len(got) != 7 {
		t.Errorf("messages %v, expected 7", got)
	}
}

func hintsAt(t *testing.T, d *Driver, shard int, id string) (n int) {
	t.Helper()
	minutes, err := d.listed(t.Context(), queueDue(shard), 0, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range minutes {
		all, err := d.hints(t.Context(), shard, m)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range all {
			if h.key.ID == id {
				n++
			}
		}
	}
	return n
}

// A message is handled once, whatever its handlers change and wherever they end.
func TestInboxAcrossAggregates(t *testing.T) {
	address := cqltest.Fresh(t)
	_, s := ready(t, address, Config{})
	_, dies := ready(t, address, Config{beforeBatch: func() error { return errCrash }})
	ctx := t.Context()
	once := func(s *repo.Store, message string, id itemID) error {
		return s.Once(ctx, scope, "consumer", message, time.Hour, func(ctx context.Context, tx *repo.Tx) error {
			return items.Add(ctx, tx, &item{Root: aggregate.Root[itemID]{ID: id}})
		})
	}
	for round := range 10 {
		message := fmt.Sprint("evt_", round)
		if err := once(dies, message, itemID("dead_"+message)); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		var passed atomic.Int64
		var wg sync.WaitGroup
		for w := range 5 {
			wg.Go(func() {
				switch err := once(s, message, itemID(fmt.Sprint(message, "_", w))); {
				case err == nil:
					passed.Add(1)
				case !errors.Is(err, repo.ErrProcessed):
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		if passed.Load() != 1 {
			t.Errorf("round %d: handled %d times", round, passed.Load())
		}
	}
	page, err := items.Find(ctx, s.Read(scope), spec.Query[item]{})
	if err != nil || len(page.Items) != 10 {
		t.Errorf("10 messages made %d items; %v", len(page.Items), err)
	}
	// One that was overtaken between its claim and its commit does not come after.
	slow, _ := ready(t, address, Config{beforeBatch: func() error { return once(s, "evt_slow", "fast") }})
	w, err := arrange(&repo.Changeset{Puts: []repo.Put{{Record: repo.Record{Key: repo.Key{Tenant: scope.Tenant, Kind: items.Name, ID: "slow"}, Version: 1,
		Doc: []byte(`{}`), Fields: []spec.Value{spec.TextValue("")}}}}, Marks: []repo.Mark{{Consumer: "consumer", Message: "evt_slow", ExpiresAt: time.Now().Add(time.Hour)}}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(ctx, w.Changeset); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("a commit that was overtaken: %v, expected ErrConflict", err)
	}
	if err := once(s, "evt_slow", "slow"); !errors.Is(err, repo.ErrProcessed) {
		t.Errorf("and again: %v, expected ErrProcessed", err)
	}
}

// Several processes start at once on a cluster that has not even a keyspace.
func TestMigrateTogether(t *testing.T) {
	for range 3 {
		migrateTogether(t)
	}
}

func migrateTogether(t *testing.T) {
	t.Helper()
	address := cqltest.Fresh(t)
	const processes = 4
	drivers := make([]*Driver, processes)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			d, err := Open(context.Background(), address, Config{})
			if err != nil {
				t.Error(err)
				return
			}
			drivers[i] = d
			if err := d.Migrate(t.Context(), []*repo.Schema{items.Schema()}); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i, d := range drivers {
		if d == nil {
			t.FailNow()
		}
		defer d.Close()
		if err := add(t.Context(), repo.New(d, repo.Config{}), itemID(fmt.Sprint(i)), "red"); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
	d := drivers[0]
	var applied int
	if err := d.session.Query(`SELECT COUNT(*) FROM schema_migrations`).Scan(&applied); err != nil || applied != 1 {
		t.Errorf("%d migrations are noted, %v", applied, err)
	}
	if err := d.session.Query(`UPDATE schema_migrations SET checksum = 'other' WHERE name = '0001_tables.cql'`).Exec(); err != nil {
		t.Fatal(err)
	}
	if err := d.Migrate(t.Context(), nil); fault.CodeOf(err) != "store_misconfigured" {
		t.Errorf("a migration that was changed: %v, expected code store_misconfigured", err)
	}
}

// Pages of many: every bucket is read on, in both directions.
func TestManyPages(t *testing.T) {
	_, s := ready(t, cqltest.Fresh(t), Config{MaxExamined: 50})
	ctx := t.Context()
	var all []*item
	for i := range 300 {
		all = append(all, &item{Root: aggregate.Root[itemID]{ID: itemID(fmt.Sprintf("%04d", i))}, Colour: fmt.Sprintf("%02d", i%7)})
	}
	for _, r := range items.AddMany(ctx, s, scope, all) {
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	for _, q := range []spec.Query[item]{{Limit: 7}, {Limit: 300}, {Limit: 11, Order: spec.Order[item]{Descending: true}}, {Limit: 13, Order: colour.Desc()}, {Limit: 100, Order: colour.Asc(), Where: colour.Ge("")}} {
		n, last := 0, (*item)(nil)
		for i, err := range items.All(ctx, s.Read(scope), q) {
			if err != nil {
				t.Fatal(err)
			}
			if last != nil {
				c := spec.TextValue(last.Colour).Compare(spec.TextValue(i.Colour))
				if q.Order.Field == "" || c == 0 {
					c = spec.TextValue(string(last.ID)).Compare(spec.TextValue(string(i.ID)))
				}
				if c >= 0 != q.Order.Descending {
					t.Fatalf("%+v: %s %s came before %s %s", q.Order, last.Colour, last.ID, i.Colour, i.ID)
				}
			}
			n, last = n+1, &i
		}
		if n != 300 {
			t.Errorf("%+v: %d items in all", q.Order, n)
		}
	}
	_, err := items.Find(ctx, s.Read(scope), spec.Query[item]{Where: spec.And(colour.In("01", "02", "03"), spec.Negate(colour.Ge("01")))})
	if !errors.Is(err, spec.ErrUnsupported) {
		t.Errorf("a query that would look at too many: %v, expected ErrUnsupported", err)
	}
}
