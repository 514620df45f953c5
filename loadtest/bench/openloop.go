package main

import (
	"context"
	"time"

	"sluice/loadtest/load"
)

// measureOpen offers one-row requests for the mid-size model at rates below
// capacity. It has no goal: beyond this the generator, which shares the cores,
// would be what is measured.
func measureOpen(ctx context.Context, b *bench) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	w, err := b.workload(ctx, s, "mid_mlp", 1, load.Binary)
	if err != nil {
		return err
	}
	pool, err := load.Dial(s.HTTP, 64)
	if err != nil {
		return err
	}
	defer pool.Close()
	closed, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, w.Model, b.span(3*time.Second))
	if err != nil {
		return err
	}
	b.report.line("mid_mlp, one row: closed loop of 64 connections %.0f requests/s, p50 %.2f p99 %.2f ms", closed.Rate(),
		millis(closed.Latency.Quantile(0.5)), millis(closed.Latency.Quantile(0.99)))
	for i, share := range []float64{0.25, 0.5, 0.75} {
		r, err := pool.Open(ctx, load.Load{Requests: w.Requests, SLO: 50 * time.Millisecond},
			load.Poisson(share*closed.Rate(), uint64(i)), b.span(4*time.Second))
		if err != nil {
			return err
		}
		if err := failures(r); err != nil {
			return err
		}
		b.report.line("open loop at %.2f of that, %.0f/s: answered %d, refused %d, unsent %d, p50 %.2f p99 %.2f max %.1f ms, generator late p99 %.2f ms",
			share, share*closed.Rate(), r.OK, r.Refused, r.Unsent, millis(r.Latency.Quantile(0.5)), millis(r.Latency.Quantile(0.99)), millis(r.Latency.Max()), millis(r.Lag.Quantile(0.99)))
	}
	return nil
}
