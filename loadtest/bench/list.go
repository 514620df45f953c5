package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/web/resource"
)

type orderView struct {
	resource.Meta
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// measureList compares pages of 50 deep in a long list with its first page, over
// HTTP: a resource in SQLite, ordered by a column.
func measureList(ctx context.Context, b *bench) (err error) {
	rows, samples := 1_000_000, 1000
	if b.short {
		rows, samples = 50_000, 200
	}
	store, done, err := b.openStore(ctx, "list.db", sqliterepo.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	began := time.Now()
	if err := fill(ctx, store, rows); err != nil {
		return err
	}
	filled := time.Since(began)
	addr, stop, err := serveOrders(ctx, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	l := lister{base: "http://" + addr + "/v1/orders?order=-cents", client: &http.Client{Timeout: 10 * time.Second}}
	defer l.client.CloseIdleConnections()
	cursors, err := l.walk(ctx)
	if err != nil {
		return err
	}
	var first, deep []time.Duration
	for range samples { // in turns, so that what disturbs one disturbs the other
		cursor := cursors[rand.IntN(len(cursors))]
		for list, c := range map[*[]time.Duration]string{&first: "", &deep: cursor} {
			began := time.Now()
			if _, err := l.page(ctx, c, 50); err != nil {
				return err
			}
			*list = append(*list, time.Since(began))
		}
	}
	f, d := quantile(first, .99), quantile(deep, .99)
	b.report.line("%d rows (filled in %.0f s): a page of 50 takes p99 %.2f ms at the beginning, %.2f ms anywhere", rows, filled.Seconds(), f, d)
	b.report.set("list_depth_p99", d/f)
	return nil
}

// fill adds orders, many in a unit of work.
func fill(ctx context.Context, store *repo.Store, rows int) error {
	const each = 2000
	for n := 0; n < rows; n += each {
		err := store.Do(ctx, orderScope, func(ctx context.Context, tx *repo.Tx) error {
			for i := range each {
				o := &order{Customer: fmt.Sprint("customer ", (n+i)%1000), Cents: int64((n + i) * 7919 % rows)}
				o.ID = repo.NewID[orderID](tx, "ord")
				if err := orders.Add(ctx, tx, o); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// serveOrders serves the orders as a resource until stop is called.
func serveOrders(ctx context.Context, store *repo.Store) (addr string, stop func() error, err error) {
	const read access.Permission = "orders:read"
	everybody := func(ctx context.Context, _ web.Credentials) (context.Context, error) {
		return access.With(ctx, &access.Principal{Tenant: orderScope.Tenant, Subject: "key_1", Permissions: access.SetOf(read)}), nil
	}
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err != nil {
		return "", nil, err
	}
	routes := web.NewRoutes(everybody, nil)
	server, err := web.New(web.Config{
		Name: "bench", Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxHeader: 64 << 10, MaxConnections: 100, MaxInFlight: 100, Routes: routes,
		ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}, func(e *echo.Echo) {
		once := idempotency.New(idempotency.NewMemory(time.Now), idempotency.Config{})
		a, err := api.New(e, routes, api.Config{Title: "Orders", Version: "v1", Idempotency: once})
		if err != nil {
			routes.Refuse(err)
			return
		}
		resource.Resource[orderID, order, struct{}, struct{}, orderView]{
			Kind: orders, Singular: "order", Read: read, Write: read,
			View: func(o *order, m resource.Meta) orderView { return orderView{m, o.Customer, o.Cents} },
		}.Register(a, bus)
	})
	if err != nil {
		return "", nil, err
	}
	if err := server.Listen(ctx); err != nil {
		return "", nil, err
	}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	return server.Addr(), func() error { end(); return <-ended }, nil
}

// lister reads pages of the list.
type lister struct {
	base   string
	client *http.Client
}

// walk goes through the whole list and returns the cursors on its way.
func (l lister) walk(ctx context.Context) (cursors []string, err error) {
	for next := ""; ; {
		if next, err = l.page(ctx, next, 500); err != nil {
			return nil, err
		}
		if next == "" {
			return cursors, nil
		}
		cursors = append(cursors, next)
	}
}

func (l lister) page(ctx context.Context, cursor string, limit int) (next string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s&limit=%d&cursor=%s", l.base, limit, url.QueryEscape(cursor)), nil)
	if err != nil {
		return "", err
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%d %.200s: %w", resp.StatusCode, text, err)
	}
	var p struct {
		Data []json.RawMessage `json:"data"`
		Next string            `json:"next_cursor"`
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return "", err
	}
	if len(p.Data) != limit && p.Next != "" {
		return "", fmt.Errorf("%d rows of %d", len(p.Data), limit)
	}
	return p.Next, nil
}
