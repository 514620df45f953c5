package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sluice/loadtest/load"
)

// measureBeside compares requests for a model with and without files beside them that the same
// model answers.
func measureBeside(ctx context.Context, b *bench) error {
	f, err := b.newFiler(ctx, "beside")
	if err != nil {
		return err
	}
	defer f.server.Stop() //nolint:errcheck // what is measured is over
	rows := 100_000       // 780 MB and a second of work or two, of which the acceptance and the plan are parts
	if b.short {
		rows = 40_000
	}
	path := filepath.Join(b.dir, "beside.csv")
	size, err := writeFile(path, rows, writeCSV)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }()
	if f.upload, err = f.send(ctx, path, size); err != nil {
		return err
	}
	return f.beside(ctx)
}

// keepBusy has the last upload answered again and again until ctx ends.
func (f *filer) keepBusy(ctx context.Context) error {
	after := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		v, err := f.submit(after, "csv")
		if err == nil {
			f.accepted.Add(1)
		}
		for err == nil && v.CompletedAt.IsZero() && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			err = f.call(after, http.MethodGet, "/v1/batches/"+v.ID, nil, nil, &v)
		}
		if err == nil && v.CompletedAt.IsZero() {
			err = f.call(after, http.MethodPost, "/v1/batches/"+v.ID+"/cancel", nil, nil, new(any))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// beside compares online latency with and without a batch, in turns.
func (f *filer) beside(ctx context.Context) error {
	w, err := f.workload(ctx, f.server, batchModel, 1, load.Binary)
	if err != nil {
		return err
	}
	pool, err := load.Dial(f.server.HTTP, 32)
	if err != nil {
		return err
	}
	defer pool.Close()
	const rate = 200
	measure := func(seed uint64) (*load.Result, error) {
		r, err := pool.Open(ctx, load.Load{Requests: w.Requests, SLO: time.Second}, load.Poisson(rate, seed), f.span(5*time.Second))
		if err == nil {
			err = failures(r)
		}
		return r, err
	}
	all := beside{quiet: &load.Histogram{}, busy: &load.Histogram{}}
	profile := f.profile(ctx, f.server, "beside", 4*time.Second)
	for i := range uint64(f.rounds()) {
		quiet, err := measure(i)
		if err != nil {
			return err
		}
		batches, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- f.keepBusy(batches) }() // its acceptance is part of what is measured
		busy, err := measure(i)
		stop()
		if err := errors.Join(err, <-ended); err != nil {
			return err
		}
		f.report.line("%d requests a second: %s; beside batches %s; ratio of p99 %.3f", rate, percentiles(quiet), percentiles(busy),
			float64(busy.Latency.Quantile(0.99))/float64(quiet.Latency.Quantile(0.99)))
		all.add(quiet, busy)
		time.Sleep(f.span(2 * time.Second)) // the last has ended
	}
	f.report.line("all turns: %d requests alone %s; %d beside %d batches %s", all.quiet.Count(), spread(all.quiet), all.busy.Count(), f.accepted.Load(), spread(all.busy))
	f.report.set("batch_online_p99", float64(all.busy.Quantile(0.99))/float64(all.quiet.Quantile(0.99)))
	return profile()
}

// beside are the requests of all turns: each counts as much as any other, so that a p99 is that of some
// thousands, and not of a turn's slowest ten.
type beside struct{ quiet, busy *load.Histogram }

func (b *beside) add(quiet, busy *load.Result) {
	b.quiet.Add(quiet.Latency)
	b.busy.Add(busy.Latency)
}

// percentiles are those of answers, and how late the generator was, which is a part of them.
func percentiles(r *load.Result) string {
	return fmt.Sprintf("%s, generator late p99 %.2f", spread(r.Latency), millis(r.Lag.Quantile(0.99)))
}

func spread(h *load.Histogram) string {
	at := func(q float64) float64 { return millis(h.Quantile(q)) }
	return fmt.Sprintf("p50 %.2f, p90 %.2f, p99 %.2f, at most %.1f ms", at(0.5), at(0.9), at(0.99), millis(h.Max()))
}
