package sqliterepo

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// fillSQL makes n records, with their columns or without.
func fillSQL(n int, columns bool) string {
	names, values := "", ""
	if columns {
		names, values = ", c_name, c_rank", ", printf('name %08d', i * 7919 % n), i % 100"
	}
	return fmt.Sprintf(`WITH RECURSIVE numbers(i, n) AS (SELECT 0, %d UNION ALL SELECT i + 1, n FROM numbers WHERE i + 1 < n)
		INSERT INTO r_items (tenant, id, version, sequence, created_at, created_by, updated_at, updated_by, deleted_at, expires_at, doc%s)
		SELECT 'ten_1', printf('item_%%08d', i), 1, 0, 1, 'usr_1', 1, 'usr_1', %d, %d,
			CAST(printf('{"name":"name %%08d","rank":%%d}', i * 7919 %% n, i %% 100) AS BLOB)%s FROM numbers`, n, names, int64(never), int64(never), values)
}

// depths measures pages of 50: the first, and others anywhere, in turns.
func depths(t testing.TB, store *repo.Store, order spec.Order[item], n, samples int) (first, deep []time.Duration) {
	t.Helper()
	// Cursors of places all over, from a walk with large pages.
	var cursors []string
	for q := (spec.Query[item]{Order: order, Limit: min(1000, n/20)}); ; {
		page, err := items.Find(t.Context(), store.Read(who), q)
		if err != nil {
			t.Fatal(err)
		}
		if q.After = page.Next; q.After == "" {
			break
		}
		cursors = append(cursors, page.Next)
	}
	take := func(after string) time.Duration {
		start := time.Now()
		page, err := items.Find(t.Context(), store.Read(who), spec.Query[item]{Order: order, After: after})
		took := time.Since(start)
		if err != nil || len(page.Items) != 50 {
			t.Fatalf("%d items, %v", len(page.Items), err)
		}
		return took
	}
	for i := range samples {
		first = append(first, take(""))
		deep = append(deep, take(cursors[i*7%len(cursors)]))
	}
	slices.Sort(first)
	slices.Sort(deep)
	return first, deep
}

var pageOrders = map[string]spec.Order[item]{"id": {}, "name": itemName.Asc(), "rank_desc": itemRank.Desc()}

// A deep page costs what the first one does. The medians are compared: a busy
// machine makes some of either slow.
func TestDeepPages(t *testing.T) {
	const n = 100_000
	d, store := newStore(t, storePath(t), Config{})
	d.script(t, fillSQL(n, true))
	for name, order := range pageOrders {
		first, deep := depths(t, store, order, n, 300)
		if a, b := first[len(first)/2], deep[len(deep)/2]; b > 3*a {
			t.Errorf("by %s: a deep page takes %s, the first one %s", name, b, a)
		}
	}
}

// BenchmarkDeepPages compares pages of 50 from a million records.
func BenchmarkDeepPages(b *testing.B) {
	const n = 1_000_000
	d, store := newStore(b, storePath(b), Config{})
	if err := d.writer.run(b.Context(), func(c *conn) error { return c.Script(fillSQL(n, true)) }); err != nil {
		b.Fatal(err)
	}
	for name, order := range pageOrders {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				first, deep := depths(b, store, order, n, 2000)
				at := len(first) * 99 / 100
				b.ReportMetric(float64(first[at].Microseconds()), "first-p99-µs")
				b.ReportMetric(float64(deep[at].Microseconds()), "deep-p99-µs")
				b.ReportMetric(float64(deep[at])/float64(first[at]), "ratio")
			}
		})
	}
}
