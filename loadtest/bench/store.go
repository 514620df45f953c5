package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
	"sluice/internal/platform/spec"
)

// order is the aggregate that the base is measured with.
type order struct {
	aggregate.Root[orderID]
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

type orderID string

type ordered struct {
	Cents int64 `json:"cents"`
}

func (ordered) EventType() string { return "order.placed" }

var orders = repo.Kind[orderID, order]{
	Name: "orders", Root: func(o *order) *aggregate.Root[orderID] { return &o.Root },
	Columns: []spec.Column[order]{
		spec.TextField("customer", func(o *order) string { return o.Customer }),
		spec.IntField("cents", func(o *order) int64 { return o.Cents }),
	},
}

var orderScope = repo.Scope{Tenant: "acme", Actor: "key_1", Request: "r"}

// place is a unit of work as a command makes it: state, event, audit entry.
func place(ctx context.Context, tx *repo.Tx, n int64) error {
	o := &order{Customer: "jane", Cents: n}
	o.ID = repo.NewID[orderID](tx, "ord")
	o.Record(ordered{n})
	if err := orders.Add(ctx, tx, o); err != nil {
		return err
	}
	return tx.Publish(repo.Message{Stream: repo.StreamAudit, Type: "audit.entry", Data: []byte(`{"action":"orders.place","outcome":"ok"}`)})
}

// openStore opens an SQLite store in the bench's folder.
func (b *bench) openStore(ctx context.Context, name string, cfg sqliterepo.Config) (*repo.Store, func() error, error) {
	d, err := sqliterepo.Open(ctx, filepath.Join(b.dir, name), cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := d.Migrate(ctx, []*repo.Schema{orders.Schema(), repo.LeaseSchema()}); err != nil {
		return nil, nil, err
	}
	return repo.New(d, repo.Config{}), d.Close, nil
}

// measureStore compares units of work that share commits with as many that have
// a transaction each: both durable, 64 at a time, in turns.
func measureStore(ctx context.Context, b *bench) error {
	length := 2 * time.Second
	if b.short {
		length = time.Second
	}
	rates := map[string][]float64{}
	for round := range b.rounds() {
		for name, batch := range map[string]int{"shared": 0, "one each": 1} {
			store, done, err := b.openStore(ctx, fmt.Sprintf("%s-%d.db", name[:3], round), sqliterepo.Config{Batch: batch})
			if err != nil {
				return err
			}
			rate, err := perSecond(64, length, func() error {
				return store.Do(ctx, orderScope, func(ctx context.Context, tx *repo.Tx) error { return place(ctx, tx, 1) })
			})
			if err != nil {
				return err
			}
			if err := done(); err != nil {
				return err
			}
			rates[name] = append(rates[name], rate)
		}
	}
	shared, alone := median(rates["shared"]), median(rates["one each"])
	b.report.line("64 units of work at a time (state, event, audit entry), synchronous=FULL: %.0f/s sharing commits, %.0f/s with a transaction each", shared, alone)
	syncs, err := syncsPerSecond(b.dir, length/2)
	if err != nil {
		return err
	}
	b.report.line("the disk syncs %.0f times/s after 16 KiB written: the faster it is, the less there is to share, until both are bound by the processor", syncs)
	b.report.set("group_commit", shared/alone)
	return nil
}

// syncsPerSecond says how often the folder's disk writes a little through.
func syncsPerSecond(dir string, length time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "syncs"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, page, began := 0, make([]byte, 16<<10), time.Now()
	for ; time.Since(began) < length; n++ {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
