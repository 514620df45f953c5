package main

import (
	"context"
	"fmt"
	"time"

	"sluice/internal/inference/tensor"
	"sluice/loadtest/load"
	"sluice/loadtest/target"
	"sluice/loadtest/workload"
)

// overloadRows is the rows of an overloading request: enough that the load
// generator's own CPU time matters little beside the model's.
const overloadRows = 64

// offered is a multiple of capacity at which load is offered.
type offered struct {
	factor float64
	goal   string // its name in those of goals
}

var offers = []offered{{0.5, "0.5x"}, {0.9, "0.9x"}, {1.2, "1.2x"}, {2, "2x"}, {10, "10x"}}

// outcome is what all rounds saw at one rate.
type outcome struct {
	load.Result
	cpu    time.Duration // of the server
	own    time.Duration // CPU time of this process
	shares []float64     // goodput of each round relative to the round's peak
}

// measureOverload offers Poisson arrivals up to ten times what the server can
// do, and looks at what comes back in time. Each round goes through all rates
// and measures capacity anew, since the machine's speed drifts.
func measureOverload(ctx context.Context, b *bench) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	w, err := b.workload(ctx, s, overloadModel, overloadRows, load.Binary)
	if err != nil {
		return err
	}
	pool, err := load.Dial(s.HTTP, 256)
	if err != nil {
		return err
	}
	defer pool.Close()
	b.report.line("%s, %d rows of %d tokens in a request, SLO %s; capacity by a closed loop of 4 connections", overloadModel, overloadRows, workload.Tokens, slo)
	outcomes := make([]outcome, len(offers))
	for round := range (b.rounds() + 1) / 2 {
		if err := b.overloadRound(ctx, s, w, pool, uint64(round), outcomes); err != nil {
			return err
		}
	}
	refusal := new(load.Histogram)
	for i, o := range offers {
		r := &outcomes[i]
		b.printOffer(o, r)
		refusal.Add(r.Refusal)
		b.report.set("accepted_p99_"+o.goal, millis(r.Latency.Quantile(0.99)))
		if o.factor > 1 {
			b.report.set("goodput_"+o.goal, 100*median(r.shares))
		}
	}
	b.report.set("refusal_p99", millis(refusal.Quantile(0.99)))
	return b.refusalCost(ctx, s, w)
}

// overloadRound offers every rate once and adds what it saw to the outcomes.
func (b *bench) overloadRound(ctx context.Context, s *target.Sluice, w *workload.Workload, pool *load.Pool, seed uint64, outcomes []outcome) error {
	full, err := b.capacity(ctx, s, w)
	if err != nil {
		return err
	}
	b.report.line("capacity %.1f requests/s, server CPU %.1f ms per request", full.Rate(), millis(full.perRequest()))
	l := load.Load{Requests: w.Requests, CheckEvery: 4, SLO: slo, Ramp: b.span(1500 * time.Millisecond)}
	results, peak := make([]*load.Result, len(offers)), 0.0
	for i, o := range offers {
		own, before, err := bothCPU(s)
		if err != nil {
			return err
		}
		r, err := pool.Open(ctx, l, load.Poisson(o.factor*full.Rate(), seed), l.Ramp+b.span(8*time.Second))
		if err != nil {
			return err
		}
		ownAfter, after, err := bothCPU(s)
		if err != nil {
			return err
		}
		if err := failures(r); err != nil {
			return fmt.Errorf("at %s capacity: %w", o.goal, err)
		}
		outcomes[i].Add(r)
		outcomes[i].cpu += after - before
		outcomes[i].own += ownAfter - own
		results[i], peak = r, max(peak, r.Goodput())
	}
	for i, r := range results {
		outcomes[i].shares = append(outcomes[i].shares, r.Goodput()/peak)
	}
	return nil
}

// capacity measures a closed loop that keeps every core busy and nobody waiting long.
// It is taken once the server has run the model for as long: until then its table of
// costs rests on a few single rows, beside which other models were being loaded.
func (b *bench) capacity(ctx context.Context, s *target.Sluice, w *workload.Workload) (served, error) {
	pool, err := load.Dial(s.HTTP, 4)
	if err != nil {
		return served{}, err
	}
	defer pool.Close()
	l := load.Load{Requests: w.Requests, CheckEvery: 8, Backoff: backoff}
	if err := failures(pool.Closed(ctx, l, b.span(4*time.Second))); err != nil {
		return served{}, err
	}
	return b.serve(ctx, s, pool, l, w.Model, b.span(4*time.Second))
}

func (b *bench) printOffer(o offered, r *outcome) {
	b.report.line("%4s offered %6.1f/s: in time %6.1f/s (%.0f%% of peak), accepted %d (late %.2f%%) p50 %.0f p99 %.0f ms, refused %d p50 %.2f p99 %.2f ms, unsent %d, server CPU %.1f ms per accepted, generator CPU %.2f ms per request and late p99 %.2f ms",
		o.goal, float64(r.Due)/r.Duration.Seconds(), r.Goodput(), 100*median(r.shares),
		r.OK, 100*late(&r.Result), millis(r.Latency.Quantile(0.5)), millis(r.Latency.Quantile(0.99)),
		r.Refused, millis(r.Refusal.Quantile(0.5)), millis(r.Refusal.Quantile(0.99)), r.Unsent, millis(r.cpu)/float64(max(r.OK, 1)), millis(r.own)/float64(r.Due), millis(r.Lag.Quantile(0.99)))
}

// late returns the share of accepted requests that were answered too late.
func late(r *load.Result) float64 {
	lo, hi := 0.0, 1.0 // the histogram knows quantiles: look for the one that is the SLO
	for range 20 {
		if mid := (lo + hi) / 2; r.Latency.Quantile(mid) <= slo {
			lo = mid
		} else {
			hi = mid
		}
	}
	return 1 - hi
}

// refusalCost measures what it costs to say no: requests whose own timeout is
// a microsecond are refused on arrival even by an idle server.
func (b *bench) refusalCost(ctx context.Context, s *target.Sluice, w *workload.Workload) error {
	l := load.Load{}
	for _, inputs := range w.Inputs {
		wire, err := load.Infer(s.HTTP, w.Model, inputs, load.Binary, 1)
		if err != nil {
			return err
		}
		l.Requests = append(l.Requests, &load.Request{Wire: wire})
	}
	pool, err := load.Dial(s.HTTP, 16)
	if err != nil {
		return err
	}
	defer pool.Close()
	before, err := s.CPU()
	if err != nil {
		return err
	}
	r := pool.Closed(ctx, l, b.span(2*time.Second))
	after, err := s.CPU()
	if err != nil {
		return err
	}
	if r.Failed > 0 || r.Refused == 0 {
		return fmt.Errorf("requests with a timeout of 1 us: %d refused, %d served, %d failed: %w", r.Refused, r.OK, r.Failed, r.Err)
	}
	b.report.line("a refusal costs %.1f us of the server's CPU, reading its %d KiB included (%d refused, %d served)",
		micros(after-before)/float64(r.Refused), inputBytes(w.Inputs[0])>>10, r.Refused, r.OK)
	return nil
}

func inputBytes(inputs []tensor.Tensor) int {
	n := 0
	for _, t := range inputs {
		n += len(t.Data)
	}
	return n
}
