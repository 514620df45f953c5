package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/target"
)

// trialCases are the requests that a change is tried with; the first is of the no-op
// endpoint.
var trialCases = []rowCase{
	{"no-op", "tiny_mlp", 1, 64, asBinary},
	{"tiny", "tiny_mlp", 1, 64, asBinary},
	{"cnn", "small_cnn", 1, 64, asBinary},
	{"mid", "mid_mlp", 1, 64, asBinary},
	{"mid JSON", "mid_mlp", 1, 64, asJSON},
	{"mid gRPC", "mid_mlp", 1, 64, asGRPC},
	{"mid x 32", "mid_mlp", 32, 8, asBinary},
	{"mid alone", "mid_mlp", 1, 1, asBinary},
}

// trial returns a part that compares the server with another binary of it, other
// settings, or both: each case with the one and the other in turns, so that what the
// machine does meanwhile meets both.
func trial(binary string, env []string) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		one, err := b.benchServer(ctx)
		if err != nil {
			return err
		}
		other := *b
		other.binary = cmp.Or(binary, b.binary)
		two, err := other.start(ctx, "trial", filepath.Join(b.dir, "models"), filepath.Join(b.dir, "trial-data"), env...)
		if err != nil {
			return err
		}
		b.report.line("CPU time per request of the first server and the second; the median of the rounds' ratios with the quartiles; medians of latency")
		for i, c := range trialCases {
			if err = b.tryCase(ctx, c, i == 0, one, two); err != nil {
				break
			}
		}
		return errors.Join(err, two.Stop())
	}
}

// tryCase measures both servers in turns, each as often first as second.
func (b *bench) tryCase(ctx context.Context, c rowCase, floor bool, servers ...*target.Sluice) error {
	pools, loads := make([]*load.Pool, len(servers)), make([]load.Load, len(servers))
	for i, s := range servers {
		w, pool, err := b.connect(ctx, s, c)
		if err != nil {
			return err
		}
		defer pool.Close()
		pools[i], loads[i] = pool, load.Load{Requests: w.Requests}
		if floor {
			loads[i].Requests = []*load.Request{noop(s, w.Requests[0])}
		}
	}
	rounds := 12
	if b.short {
		rounds = 4
	}
	cpu, p50, ratios := [2][]float64{}, [2][]float64{}, []float64{}
	for round := range rounds {
		for turn := range servers {
			i := (round + turn) % len(servers)
			got, err := b.serve(ctx, servers[i], pools[i], loads[i], c.model, 800*time.Millisecond)
			if err != nil {
				return err
			}
			cpu[i], p50[i] = append(cpu[i], micros(got.perRequest())), append(p50[i], micros(got.Latency.Quantile(.5)))
		}
		ratios = append(ratios, cpu[1][round]/cpu[0][round])
	}
	slices.Sort(ratios)
	b.report.line("%-9s  %6.1f %6.1f us  ratio %.3f (%.3f to %.3f)  p50 %6.0f %6.0f us",
		c.goal, median(cpu[0]), median(cpu[1]), median(ratios), ratios[rounds/4], ratios[rounds-1-rounds/4], median(p50[0]), median(p50[1]))
	return nil
}
