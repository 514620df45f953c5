package main

import (
	"context"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/target"
	"sluice/loadtest/workload"
)

// rowCase compares the CPU time of a row served with that of a row run.
type rowCase struct {
	goal        string
	model       string
	rows        int
	connections int
	wire        wire
}

// wire is how requests travel.
type wire string

const (
	asBinary wire = "binary"
	asJSON   wire = "JSON"
	asGRPC   wire = "gRPC"
)

var rowCases = []rowCase{
	{"cpu_per_row_mid", "mid_mlp", 1, 64, asBinary},
	{"cpu_per_row_cnn", "small_cnn", 1, 64, asBinary},
	{"cpu_per_row_transformer", "transformer", 1, 64, asBinary},
	// Fewer connections: 64 would queue two thousand rows, beyond the SLO.
	{"rows32_mid", "mid_mlp", 32, 8, asBinary},
	{"", "mid_mlp", 1, 64, asJSON},
	{"", "mid_mlp", 1, 64, asGRPC},
	{"", "tiny_mlp", 1, 64, asBinary},
}

// measureRows compares serving with running, in turns: raw, served, raw, ...
func measureRows(ctx context.Context, b *bench) error {
	b.report.line("CPU time per row; raw = the runtime called from Go, two goroutines, same batch size as a request")
	for _, c := range rowCases {
		if err := measureRow(ctx, b, c); err != nil {
			return err
		}
	}
	return nil
}

func measureRow(ctx context.Context, b *bench, c rowCase) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	w, pool, err := b.connect(ctx, s, c)
	if err != nil {
		return err
	}
	defer pool.Close()
	var ratios, raws, serves, rates, batches, own []float64
	refused, checked := 0, 0
	for range b.rounds() {
		raw, err := w.Baseline.Measure(ctx, w.Inputs[0], c.rows, 2, b.span(2*time.Second))
		if err != nil {
			return err
		}
		got, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, c.model, b.span(3*time.Second))
		if err != nil {
			return err
		}
		perRow := got.perRequest() / time.Duration(c.rows)
		ratios = append(ratios, float64(perRow)/float64(raw.PerRow))
		raws, serves = append(raws, micros(raw.PerRow)), append(serves, micros(perRow))
		rates, batches = append(rates, got.Rate()*float64(c.rows)), append(batches, got.batch)
		own = append(own, micros(got.generator)/float64(got.OK*c.rows))
		refused, checked = refused+got.Refused, checked+got.Checked
	}
	b.report.line("%-12s %2d row(s) %-6s %2d conns: raw %7.1f us, served %7.1f us, ratio %.3f, %6.0f rows/s, mean batch %.1f, generator %.1f us, refused %d, answers checked %d",
		c.model, c.rows, c.wire, c.connections, median(raws), median(serves), median(ratios), median(rates), median(batches), median(own), refused, checked)
	switch c.goal {
	case "":
	case "rows32_mid": // stated the other way round: speed relative to raw
		b.report.set(c.goal, 1/median(ratios))
	default:
		b.report.set(c.goal, median(ratios))
	}
	return nil
}

// connect makes the requests of a case and connections for them.
func (b *bench) connect(ctx context.Context, s *target.Sluice, c rowCase) (*workload.Workload, *load.Pool, error) {
	if c.wire == asGRPC {
		w, err := b.models.New(ctx, c.model, c.rows)
		if err != nil {
			return nil, nil, err
		}
		if err := w.AddressGRPC(); err != nil {
			return nil, nil, err
		}
		conns, err := load.GRPC(s.GRPC, c.connections, "")
		return w, load.NewPool(conns...), err
	}
	encoding := load.Binary
	if c.wire == asJSON {
		encoding = load.JSON
	}
	w, err := b.workload(ctx, s, c.model, c.rows, encoding)
	if err != nil {
		return nil, nil, err
	}
	pool, err := load.Dial(s.HTTP, c.connections)
	return w, pool, err
}
