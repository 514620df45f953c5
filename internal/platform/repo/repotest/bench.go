package repotest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// order is an aggregate as most are: it can be listed by two columns, and keeps
// no history.
type order struct {
	aggregate.Root[thingID]
	Name  string `json:"name"`
	State string `json:"state"`
	Note  string `json:"note"`
}

var orders = repo.Kind[thingID, order]{
	Name: "repotest_orders", Root: func(o *order) *aggregate.Root[thingID] { return &o.Root },
	Columns: []spec.Column[order]{spec.TextField("name", func(o *order) string { return o.Name }), spec.TextField("state", func(o *order) string { return o.State })},
}

// Work is the unit of work that stores are measured by: one aggregate that is
// made, its event, and an audit message.
func Work(ctx context.Context, tx *repo.Tx) error {
	o := &order{Root: aggregate.Root[thingID]{ID: repo.NewID[thingID](tx, "order")}, State: "open", Note: "what stands in no column"}
	o.Name = string(o.ID)
	o.Record(changed{1})
	if err := orders.Add(ctx, tx, o); err != nil {
		return err
	}
	return tx.Publish(repo.Message{Stream: repo.StreamAudit, Type: "audit.entry", Data: []byte(`{"action":"order.create","outcome":"done","reason":""}`)})
}

// Schemas are those of the kinds that the suite uses, for Driver.Migrate.
func Schemas() []*repo.Schema { return schemas() }

// Benchmark measures the driver.
func Benchmark(b *testing.B, open func(t testing.TB) repo.Driver) {
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprintf("work/%d", workers), func(b *testing.B) {
			store := benchStore(b, open)
			b.ReportAllocs()
			Spread(b, workers, func() error { return store.Do(ctx, benchScope, Work) })
		})
	}
	b.Run("get", func(b *testing.B) {
		store := benchStore(b, open)
		benchFill(b, store, 1000)
		page, err := things.Find(ctx, store.Read(benchScope), spec.Query[thing]{Limit: 1})
		if err != nil || len(page.Items) == 0 {
			b.Fatalf("nothing to get: %v", err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := things.Get(ctx, store.Read(benchScope), page.Items[0].ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("find", func(b *testing.B) { benchFind(b, open) })
	b.Run("drain", func(b *testing.B) { benchDrain(b, open) })
}

var benchScope = repo.Scope{Tenant: "ten_bench", Actor: "usr_1", Request: "req_1", Correlation: "cor_1"}

func benchStore(b *testing.B, open func(t testing.TB) repo.Driver) *repo.Store {
	d := open(b)
	b.Cleanup(func() { d.Close() })
	if err := d.Migrate(b.Context(), schemas()); err != nil {
		b.Fatal(err)
	}
	return repo.New(d, repo.Config{})
}

// Spread has workers run f b.N times in all, and reports how often a second it
// ran and how long the slowest hundredth took.
func Spread(b *testing.B, workers int, f func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, workers)
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if err := f(); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	}
}

// benchFill adds things.
func benchFill(b *testing.B, store *repo.Store, n int) {
	b.Helper()
	for from := 0; from < n; from += 500 {
		var all []*thing
		for i := from; i < min(from+500, n); i++ {
			all = append(all, newThing(thingID(fmt.Sprintf("thing_%08d", i)), thing{Name: fmt.Sprintf("name %08d", i*7919%n), N: int64(i % 100), At: epoch}))
		}
		for _, r := range things.AddMany(ctx, store, benchScope, all) {
			if r.Err() != nil {
				b.Fatal(r.Err())
			}
		}
	}
}

func benchFind(b *testing.B, open func(t testing.TB) repo.Driver) {
	const n = 10_000
	store := benchStore(b, open)
	benchFill(b, store, n)
	for _, order := range []spec.Order[thing]{{}, name.Asc(), num.Desc()} {
		q := spec.Query[thing]{Order: order, Limit: 50}
		if _, err := things.Find(ctx, store.Read(benchScope), q); err != nil {
			b.Logf("order %+v: %v", order, err)
			continue
		}
		for _, place := range []string{"first", "deep"} {
			if place == "deep" {
				for range n / 50 / 2 {
					page, err := things.Find(ctx, store.Read(benchScope), q)
					if err != nil {
						b.Fatal(err)
					}
					q.After = page.Next
				}
			}
			b.Run(fmt.Sprintf("by_%s/%s", order.Field, place), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if page, err := things.Find(ctx, store.Read(benchScope), q); err != nil || len(page.Items) != 50 {
						b.Fatalf("%d found: %v", len(page.Items), err)
					}
				}
			})
		}
	}
}

// benchDrain publishes messages in batches as a relay does.
func benchDrain(b *testing.B, open func(t testing.TB) repo.Driver) {
	store := benchStore(b, open)
	d := store.Driver()
	benchFill(b, store, b.N)
	b.ResetTimer()
	n := 0
	for shard := range d.Shards() {
		for {
			batch, err := d.Pending(ctx, shard, 256)
			if err != nil {
				b.Fatal(err)
			}
			if len(batch) == 0 {
				break
			}
			if err := d.Published(ctx, shard, batch, time.Now()); err != nil {
				b.Fatal(err)
			}
			n += len(batch)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
}
