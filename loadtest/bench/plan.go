package main

import (
	"context"
	"time"

	"sluice/internal/client"
	"sluice/internal/client/plan"
	"sluice/loadtest/load"
)

// measurePlan compares what `sluice plan` works with, predicted from the costs that
// the server has measured, with an open loop of the same rate. It has no goal: what
// others take of the machine is not in a prediction.
func measurePlan(ctx context.Context, b *bench) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{URL: "http://" + s.HTTP})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, name := range []string{"transformer", "mid_mlp"} {
		w, err := b.workload(ctx, s, name, 1, load.Binary)
		if err != nil {
			return err
		}
		pool, err := load.Dial(s.HTTP, 256)
		if err != nil {
			return err
		}
		defer pool.Close()
		l := load.Load{Requests: w.Requests, Backoff: backoff}
		if err := failures(pool.Closed(ctx, l, b.span(2*time.Second))); err != nil { // has the server learn all sizes
			return err
		}
		for _, share := range []float64{0.2, 0.4, 0.6, 0.8} {
			var node plan.Node
			if err := c.Get(ctx, "/v1/models/"+name+"/costs", &node); err != nil {
				return err
			}
			// The generator takes its share of the cores, too.
			demand := plan.Demand{Rate: 1, Rows: 1, P99: time.Second, Request: 80 * time.Microsecond}
			one, err := plan.Predict(node, demand)
			if err != nil {
				return err
			}
			demand.Rate = share * one.Peak
			want, err := plan.Predict(node, demand)
			if err != nil {
				return err
			}
			before, err := s.Metrics(ctx)
			if err != nil {
				return err
			}
			r, err := pool.Open(ctx, l, load.Poisson(demand.Rate, 1), b.span(5*time.Second))
			if err != nil {
				return err
			}
			after, err := s.Metrics(ctx)
			if err != nil {
				return err
			}
			label := `model="` + name + `"`
			runs := after.Sum("nv_inference_exec_count", label) - before.Sum("nv_inference_exec_count", label)
			rows := after.Sum("nv_inference_count", label) - before.Sum("nv_inference_count", label)
			b.report.line("%-12s %6.0f/s, %.0f%% of the predicted peak: p50 predicted %.2f measured %.2f ms, p99 predicted %.2f measured %.2f ms, mean batch predicted %.1f measured %.1f, refused %d of %d",
				name, demand.Rate, 100*share, millis(want.P50), millis(r.Latency.Quantile(.5)), millis(want.P99), millis(r.Latency.Quantile(.99)), want.Batch, rows/max(runs, 1), r.Refused, r.Due)
		}
	}
	return nil
}
