package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/chrecord"
	"sluice/internal/inference/record/sqliterecord"
	"sluice/internal/inference/tensor"
)

// measureLog fills a prediction log in SQLite with a day of three arms, sums the day up, and
// hands entries over as a request does: with a policy for tensors that does not sample it.
func measureLog(ctx context.Context, b *bench) (err error) {
	store, err := sqliterecord.Open(ctx, filepath.Join(b.dir, "predictions.db"), sqliterecord.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := b.measureDay(ctx, store, "SQLite", "log_append", "log_day"); err != nil {
		return err
	}
	cost, err := handOver()
	if err != nil {
		return err
	}
	b.report.line("handing a prediction over takes %.3f us", cost)
	b.report.set("log_cost", cost)
	return nil
}

// envClickHouse has the address of a ClickHouse for tests.
const envClickHouse = "SLUICE_TEST_CLICKHOUSE_URL"

// measureClickHouse does the same with a log in ClickHouse, in a database of its own.
func measureClickHouse(ctx context.Context, b *bench) (err error) {
	address := os.Getenv(envClickHouse)
	if address == "" {
		return errors.New("there is no " + envClickHouse + ": run this by `bin/services with`")
	}
	server, name := strings.TrimSuffix(address, "/default"), "bench_"+strings.ToLower(crand.Text())
	if err := ask(ctx, server, "CREATE DATABASE "+name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ask(context.WithoutCancel(ctx), server, "DROP DATABASE "+name)) }()
	store, err := chrecord.Open(ctx, server+"/"+name, chrecord.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var trips []time.Duration
	for range 101 {
		began := time.Now()
		if err := ask(ctx, server, "SELECT 1"); err != nil {
			return err
		}
		trips = append(trips, time.Since(began))
	}
	b.report.line("a statement that does nothing takes %.2f ms, which is what each costs by HTTP: an append is two", quantile(trips, .5))
	return b.measureDay(ctx, store, "ClickHouse", "log_append_clickhouse", "log_day_clickhouse")
}

// ask has ClickHouse run a statement over HTTP.
func ask(ctx context.Context, server, sql string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/", strings.NewReader(sql))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("ClickHouse answers %s: %s", resp.Status, text)
	}
	return err
}

// measureDay fills a log with a day, and sums it up by arm.
func (b *bench) measureDay(ctx context.Context, store record.Store, name, appended, summed string) error {
	total := 5_000_000
	if b.short {
		total = 200_000
	}
	day := time.Now().UTC().Add(-48 * time.Hour).Truncate(24 * time.Hour)
	spent, err := fillLog(ctx, store, day, total)
	if err != nil {
		return err
	}
	rate := float64(total) / spent.Seconds()
	var times []time.Duration
	for range 20 {
		began := time.Now()
		sums, err := store.Statistics(ctx, record.Filter{Tenant: "acme", From: day, To: day.Add(24 * time.Hour)}, record.Grouping{})
		if err != nil || len(sums) != len(logArms) {
			return fmt.Errorf("a day of %d arms has %d sums: %w", len(logArms), len(sums), err)
		}
		times = append(times, time.Since(began))
	}
	summary := quantile(times, .5)
	b.report.line("%d predictions appended to %s at %.0f/s; a day of them sums up by arm in %.1f ms", total, name, rate, summary)
	b.report.set(appended, rate)
	b.report.set(summed, summary)
	return nil
}

var logArms = []string{"champion", "challenger", "other"}

// fillLog appends predictions that are spread over a day, and returns how long the store
// took.
func fillLog(ctx context.Context, store record.Store, day time.Time, total int) (spent time.Duration, err error) {
	r := rand.New(rand.NewPCG(1, 2))
	const size = 4096
	list := make([]*record.Entry, 0, size)
	for from := 0; from < total; from += size {
		list = list[:0]
		for i := from; i < min(from+size, total); i++ {
			at := day.Add(24 * time.Hour / time.Duration(total) * time.Duration(i)).Truncate(time.Millisecond)
			took := time.Duration(5 * float64(time.Millisecond) * math.Exp(0.7*r.NormFloat64()))
			list = append(list, &record.Entry{ID: record.NewID(at), At: at, Tenant: "acme", Model: "m", Version: "1", Rows: 1, BatchRows: 4,
				Choice: record.Choice{Experiment: "exp_1", Arm: logArms[r.IntN(len(logArms))]}, Latency: record.Latency{Infer: took / 2, Total: took}})
		}
		began := time.Now()
		if err := store.Append(ctx, list); err != nil {
			return spent, err
		}
		spent += time.Since(began)
	}
	return spent, nil
}

// nowhere keeps nothing.
type nowhere struct{}

func (nowhere) Append(context.Context, []*record.Entry) error { return nil }

// handOver returns what logging costs a request, in microseconds.
func handOver() (float64, error) {
	l, err := record.NewLog(nowhere{}, record.LogConfig{})
	if err != nil {
		return 0, err
	}
	policy, err := record.ParseContentPolicy(`{"sample":0.000001,"tenants":["acme"]}`)
	if err != nil {
		return 0, err
	}
	input := []tensor.Tensor{{Name: "x", Datatype: tensor.Uint8, Shape: tensor.Shape{1, 32}, Data: make([]byte, 32)}}
	if err := policy.Fit(input, nil); err != nil {
		return 0, err
	}
	const rounds, each = 100, 10_000
	var spent time.Duration
	for range rounds {
		began := time.Now()
		for range each {
			e := l.Entry()
			e.At = began
			e.ID, e.Tenant, e.Model, e.Version = record.NewID(began), "acme", "m", "1"
			if policy.Takes(e.Tenant) {
				e.Take(policy, input, nil)
			}
			l.Record(e)
		}
		spent += time.Since(began)
		if err := l.Flush(context.Background()); err != nil { // so that none is dropped
			return 0, err
		}
	}
	return float64(spent.Nanoseconds()) / 1000 / (rounds * each), nil
}
