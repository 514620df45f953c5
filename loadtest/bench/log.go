package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/sqliterecord"
	"sluice/internal/inference/tensor"
)

// measureLog fills a prediction log with a day of three arms, sums the day up, and hands
// entries over as a request does: with a policy for tensors that does not sample it.
func measureLog(ctx context.Context, b *bench) (err error) {
	total := 5_000_000
	if b.short {
		total = 200_000
	}
	store, err := sqliterecord.Open(ctx, filepath.Join(b.dir, "predictions.db"), sqliterecord.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
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
	slices.Sort(times)
	summary := float64(times[len(times)/2].Microseconds()) / 1000
	cost, err := handOver()
	if err != nil {
		return err
	}
	b.report.line("%d predictions appended to SQLite at %.0f/s; a day of them sums up by arm in %.1f ms; handing one over takes %.3f us", total, rate, summary, cost)
	b.report.set("log_append", rate)
	b.report.set("log_day", summary)
	b.report.set("log_cost", cost)
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
