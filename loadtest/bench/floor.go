package main

import (
	"context"
	"fmt"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/target"
)

// noop returns a request to the server's no-op endpoint with the body and the
// header fields of the inference request.
func noop(s *target.Sluice, like *load.Request) *load.Request {
	body := load.Body(like.Wire)
	fields := "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: 0\r\n"
	return &load.Request{Wire: load.Post(s.HTTP, "/bench/noop", fields, body)}
}

// measureNoop compares the rate of the cheapest model with that of an endpoint
// which only reads the body: what is between is all that serving adds. The rate
// is that of a machine which these two processes keep busy: requests per second
// of CPU time, the server's and the generator's. So others cannot shift it.
func measureNoop(ctx context.Context, b *bench) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	w, err := b.workload(ctx, s, "tiny_mlp", 1, load.Binary)
	if err != nil {
		return err
	}
	pool, err := load.Dial(s.HTTP, 64)
	if err != nil {
		return err
	}
	defer pool.Close()
	floor := load.Load{Requests: []*load.Request{noop(s, w.Requests[0])}}
	var ratios, floors, tinies, floorCPU, tinyCPU, batches []float64
	for range b.rounds() {
		base, err := b.serve(ctx, s, pool, floor, "", b.span(3*time.Second))
		if err != nil {
			return fmt.Errorf("no-op endpoint: %w", err)
		}
		tiny, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, w.Model, b.span(3*time.Second))
		if err != nil {
			return err
		}
		ratios = append(ratios, tiny.perCPU()/base.perCPU())
		floors, tinies = append(floors, base.Rate()), append(tinies, tiny.Rate())
		floorCPU, tinyCPU = append(floorCPU, micros(base.perRequest())), append(tinyCPU, micros(tiny.perRequest()))
		batches = append(batches, tiny.batch)
	}
	b.report.line("64 connections, body of %d bytes", len(load.Body(w.Requests[0].Wire)))
	b.report.line("no-op     %7.0f requests/s, server CPU %5.1f us per request", median(floors), median(floorCPU))
	b.report.line("tiny_mlp  %7.0f requests/s, server CPU %5.1f us per request, mean batch %.1f", median(tinies), median(tinyCPU), median(batches))
	b.report.line("ratio of rates: %.3f by the CPU time of server and generator, %.3f on the clock, %.3f by the server's CPU time alone",
		median(ratios), median(tinies)/median(floors), median(floorCPU)/median(tinyCPU))
	b.report.set("tiny_vs_noop", median(ratios))
	return nil
}

// measureLatency compares the median answer over one connection with the sum
// of its parts: the no-op endpoint and a run of the model.
func measureLatency(ctx context.Context, b *bench) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	w, err := b.workload(ctx, s, "mid_mlp", 1, load.Binary)
	if err != nil {
		return err
	}
	pool, err := load.Dial(s.HTTP, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	floor := load.Load{Requests: []*load.Request{noop(s, w.Requests[0])}}
	var extra, infers, floors, raws, p99s []float64
	for range b.rounds() {
		raw, err := w.Baseline.Measure(ctx, w.Inputs[0], 1, 1, b.span(time.Second))
		if err != nil {
			return err
		}
		base, err := b.serve(ctx, s, pool, floor, "", b.span(2*time.Second))
		if err != nil {
			return fmt.Errorf("no-op endpoint: %w", err)
		}
		infer, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, w.Model, b.span(2*time.Second))
		if err != nil {
			return err
		}
		i, f, r := micros(infer.Latency.Quantile(0.5)), micros(base.Latency.Quantile(0.5)), micros(raw.Latency.Quantile(0.5))
		infers, floors, raws, extra = append(infers, i), append(floors, f), append(raws, r), append(extra, i-f-r)
		p99s = append(p99s, micros(infer.Latency.Quantile(0.99)))
	}
	b.report.line("mid_mlp, one connection, medians: infer %.1f us (p99 %.0f us), no-op %.1f us, raw run %.1f us; beyond their sum %.1f us",
		median(infers), median(p99s), median(floors), median(raws), median(extra))
	b.report.set("latency_1conn", median(extra))
	return nil
}

// measureAllocs counts the server's heap allocations for one request.
func measureAllocs(ctx context.Context, b *bench) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	w, err := b.workload(ctx, s, "tiny_mlp", 1, load.Binary)
	if err != nil {
		return err
	}
	pool, err := load.Dial(s.HTTP, 64)
	if err != nil {
		return err
	}
	defer pool.Close()
	count := func(l load.Load) (objects, bytes float64, err error) {
		if err := failures(pool.Closed(ctx, l, b.span(time.Second))); err != nil {
			return 0, 0, err
		}
		before, err := s.Metrics(ctx)
		if err != nil {
			return 0, 0, err
		}
		r := pool.Closed(ctx, l, b.span(4*time.Second))
		after, err := s.Metrics(ctx)
		if err != nil {
			return 0, 0, err
		}
		per := func(name string) float64 { return (after.Sum(name, "") - before.Sum(name, "")) / float64(max(r.OK, 1)) }
		return per("go_memstats_mallocs_total"), per("go_memstats_alloc_bytes_total"), failures(r)
	}
	objects, bytes, err := count(load.Load{Requests: w.Requests})
	if err != nil {
		return err
	}
	floorObjects, floorBytes, err := count(load.Load{Requests: []*load.Request{noop(s, w.Requests[0])}})
	if err != nil {
		return err
	}
	b.report.line("tiny_mlp  %.1f allocations, %.0f bytes per request, all of the server's included", objects, bytes)
	b.report.line("no-op     %.1f allocations, %.0f bytes per request", floorObjects, floorBytes)
	bare, err := bareAllocs(ctx, b, w.Requests[0])
	if err != nil {
		return err
	}
	b.report.line("net/http  %.1f allocations per request of a server that has nothing else", bare)
	b.report.set("allocs_per_request", objects)
	return nil
}
