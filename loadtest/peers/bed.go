package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/target"
	"sluice/loadtest/workload"
)

// cell is one measurement.
type cell struct {
	model       string
	encoding    load.Encoding
	connections int
}

// measured are the models that every server is asked for.
var measured = []string{"mid_mlp", "small_cnn", "transformer"}

func cells() []cell {
	var out []cell
	for _, model := range measured {
		for _, e := range []load.Encoding{load.Binary, load.JSON} {
			for _, n := range []int{1, 64} {
				out = append(out, cell{model, e, n})
			}
		}
	}
	return out
}

// entry is a server as it was measured.
type entry struct {
	title   string
	batched string // "batched", "one by one", or empty where that is no question
	sluice  bool
	floor   bool
}

// name is the title as a table has it.
func (e entry) name() string {
	if e.sluice {
		return "**" + e.title + "**"
	}
	return e.title
}

// seen is what the rounds saw.
type seen struct {
	rates, p50, p99 []float64 // of each round: per second, milliseconds
	failed, refused int
}

// bed is one run.
type bed struct {
	settings

	dir, binary string
	out         io.Writer
	models      *workload.Models
	results     map[entry]map[cell]*seen
	flooded     map[entry]flooded
	left        []string // peers that could not be measured, and why
}

// leave leaves a peer out, with what was measured of it before.
func (b *bed) leave(p *peer, err error) {
	maps.DeleteFunc(b.results, func(e entry, _ map[cell]*seen) bool { return e.title == p.title })
	maps.DeleteFunc(b.flooded, func(e entry, _ flooded) bool { return e.title == p.title })
	b.left = append(b.left, fmt.Sprintf("%s: %v", p.title, err))
	fmt.Fprintf(b.out, "left out: %s: %v\n", p.title, err)
}

// alone reports whether nothing was measured beside Sluice and the floor.
func (b *bed) alone() bool {
	for e := range b.results {
		if !e.sluice && !e.floor {
			return false
		}
	}
	return true
}

// measure goes through all servers, as often as there are rounds, beginning each
// round with another one.
func (b *bed) measure(ctx context.Context, chosen []*peer) error {
	b.results, b.flooded = map[entry]map[cell]*seen{}, map[entry]flooded{}
	repository := filepath.Join(b.dir, "models")
	for _, name := range measured {
		if err := os.CopyFS(filepath.Join(repository, name), os.DirFS(filepath.Join("loadtest", "models", name))); err != nil {
			return err
		}
	}
	if err := objective(repository, overloadModel, overloadObjective); err != nil {
		return err
	}
	if b.binary == "" {
		b.binary = filepath.Join(b.dir, "api")
		if err := target.BuildSluice(ctx, b.binary); err != nil {
			return err
		}
	}
	broken := map[*peer]bool{}
	turns := append([]*peer{nil}, chosen...) // nil is Sluice
	for round := range b.rounds {
		if err := b.floor(ctx); err != nil {
			return err
		}
		for i := range turns {
			p := turns[(i+round)%len(turns)]
			if p == nil {
				if err := b.sluice(ctx, repository, round); err != nil {
					return err
				}
				continue
			}
			if p.python == "" || broken[p] {
				continue
			}
			began := time.Now()
			if err := b.peer(ctx, p, round == b.rounds-1); err != nil {
				if ctx.Err() != nil {
					return errors.Join(err, ctx.Err())
				}
				broken[p] = true
				b.leave(p, err)
				continue
			}
			fmt.Fprintf(b.out, "round %d: %s, %.0f s\n", round+1, p.title, time.Since(began).Seconds())
		}
	}
	return nil
}

func (b *bed) sluice(ctx context.Context, repository string, round int) error {
	s, err := target.StartSluice(ctx, target.Config{Binary: b.binary, Log: filepath.Join(b.dir, "sluice.log"), Repository: repository,
		Data: filepath.Join(b.dir, fmt.Sprintf("data%d", round))})
	if err != nil {
		return err
	}
	defer func() { _ = s.Stop() }()
	for _, c := range cells() {
		if err := b.cell(ctx, entry{title: "Sluice", batched: "batched", sluice: true}, c, oip, s.HTTP, c.model); err != nil {
			return fmt.Errorf("sluice: %w", err)
		}
	}
	if round == b.rounds-1 {
		if err := b.flood(ctx, entry{title: "Sluice", batched: "batched", sluice: true}, oip, s.HTTP, overloadModel); err != nil {
			return fmt.Errorf("sluice: %w", err)
		}
	}
	fmt.Fprintf(b.out, "round %d: Sluice\n", round+1)
	return nil
}

func (b *bed) peer(ctx context.Context, p *peer, last bool) error {
	r, err := p.start(ctx, b.dir)
	if err != nil && ctx.Err() == nil { // PyTriton's workers are now and then refused by their own parent
		fmt.Fprintf(b.out, "%s is started again: %v\n", p.title, err)
		r, err = p.start(ctx, b.dir)
	}
	if err != nil {
		return err
	}
	defer r.stop()
	if err := b.ask(ctx, p, r, last); err != nil {
		return fmt.Errorf("%w; its log ends:\n%s", err, r.process.Tail())
	}
	return nil
}

// ask measures a peer that runs at everything it takes, and in the last round with too much.
func (b *bed) ask(ctx context.Context, p *peer, r *running, last bool) error {
	for _, c := range cells() {
		w, ok := p.wires[c.encoding]
		if !ok {
			continue
		}
		addr := r.http
		if w == grpc {
			addr = r.grpc
		}
		if err := b.cell(ctx, entry{title: p.title, batched: "one by one"}, c, w, addr, c.model); err != nil {
			return err
		}
		if !p.batch {
			continue
		}
		if err := b.cell(ctx, entry{title: p.title, batched: "batched"}, c, w, addr, c.model+"_batched"); err != nil {
			return err
		}
	}
	if !last {
		return nil
	}
	// In the way in which it does more; and last, since it is in no state to be measured after that.
	how, served := "one by one", overloadModel
	if p.batch {
		how, served = "batched", overloadModel+"_batched"
	}
	return b.flood(ctx, entry{title: p.title, batched: how}, p.wires[load.JSON], r.http, served)
}

// cell measures one server at one thing: every answer is compared before, and one
// of 64 during the measurement.
func (b *bed) cell(ctx context.Context, e entry, c cell, w wire, addr, served string) error {
	work, err := b.models.New(ctx, c.model, 1)
	if err != nil {
		return err
	}
	requests, conns, err := w.prepare(addr, served, work, c)
	if err != nil {
		return err
	}
	pool := load.NewPool(conns...)
	defer pool.Close()
	if err := workload.Verify(pool, served, requests); err != nil {
		return err
	}
	l := load.Load{Requests: requests, Backoff: 20 * time.Millisecond}
	pool.Closed(ctx, l, b.warm)
	b.at(e, c).add(pool.Closed(ctx, l, b.span))
	return ctx.Err()
}

func (b *bed) at(e entry, c cell) *seen {
	if b.results[e] == nil {
		b.results[e] = map[cell]*seen{}
	}
	if b.results[e][c] == nil {
		b.results[e][c] = &seen{}
	}
	return b.results[e][c]
}

func (s *seen) add(r *load.Result) {
	ms := func(q float64) float64 { return float64(r.Latency.Quantile(q)) / float64(time.Millisecond) }
	s.rates, s.p50, s.p99 = append(s.rates, r.Rate()), append(s.p50, ms(.5)), append(s.p99, ms(.99))
	s.failed, s.refused = s.failed+r.Failed, s.refused+r.Refused
}

// floor measures the runtime in this process: nothing that serves it can do more
// than that one by one, and what batching gains is on top.
func (b *bed) floor(ctx context.Context) error {
	for _, c := range cells() {
		if c.encoding != load.Binary {
			continue // it has no wire
		}
		base, err := b.models.Baseline(ctx, c.model)
		if err != nil {
			return err
		}
		goroutines := min(c.connections, runtime.NumCPU())
		began := time.Now()
		cost, err := base.Measure(ctx, workload.Inputs(base.Signature.Inputs, 1, workload.Tokens, 1), 1, goroutines, b.span)
		if err != nil {
			return err
		}
		took := time.Since(began)
		s := b.at(entry{title: "ONNX Runtime in the process", batched: "one by one", floor: true}, c)
		s.add(&load.Result{Duration: took, OK: int(cost.Latency.Count()), Latency: cost.Latency})
	}
	return nil
}
