package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"sluice/loadtest/load"
)

// How a server is asked for twice as much as it can do.
const (
	overloadModel = "transformer"
	overloadSLO   = time.Second // as clients count
	// overloadObjective is the SLO that Sluice has: shorter than the clients', who count from when
	// a request is due, and the way there and back.
	overloadObjective = 850 * time.Millisecond
	// overloadConns are so many that no server is spared by the clients' having no
	// connection left before its queue is longer than the SLO.
	overloadConns = 4096
	overloadRamp  = 1500 * time.Millisecond
)

// overloadCell is where the capacity was measured: the one way that all servers take.
var overloadCell = cell{overloadModel, load.JSON, 64}

// objective sets the SLO in a model's config. Sluice refuses what it does not expect to answer
// within it.
func objective(repository, name string, slo time.Duration) error {
	path := filepath.Join(repository, name, "config.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	line := regexp.MustCompile(`(?m)^slo: .*$`)
	if !line.Match(config) {
		return fmt.Errorf("%s: expected a line slo: to replace", path)
	}
	return os.WriteFile(path, line.ReplaceAll(config, []byte("slo: "+slo.String())), 0o600)
}

// flooded is what a server did when it was asked for too much.
type flooded struct {
	capacity float64
	*load.Result
}

// flood offers a server twice the rate that it has reached in this round, with
// arrivals that do not wait for answers.
func (b *bed) flood(ctx context.Context, e entry, w wire, addr, served string) error {
	rates := b.at(e, overloadCell).rates
	capacity := rates[len(rates)-1]
	work, err := b.models.New(ctx, overloadModel, 1)
	if err != nil {
		return err
	}
	c := overloadCell
	c.connections = overloadConns
	requests, conns, err := w.prepare(addr, served, work, c)
	if err != nil {
		return err
	}
	pool := load.NewPool(conns...)
	defer pool.Close()
	l := load.Load{Requests: requests, SLO: overloadSLO, Ramp: overloadRamp}
	r, err := pool.Open(ctx, l, load.Poisson(2*capacity, 1), overloadRamp+3*b.span)
	if err != nil {
		return err
	}
	b.flooded[e] = flooded{capacity, r}
	return nil
}

// overloadTable shows how much of its capacity a server still answers in time.
func (b *bed) overloadTable(t *strings.Builder) {
	fmt.Fprintf(t, "\n**%s, %s, twice as much as each can do** (Poisson arrivals at twice the rate of 64 connections in that round, over %d connections; in time is within %s of when a request was due; the last round)\n\n",
		overloadModel, encoding(overloadCell.encoding), overloadConns, overloadSLO)
	t.WriteString("| | | can do/s | in time/s | share | p50 s | p99 s | refused | failed | no connection left |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range b.rows(overloadCell) {
		f, ok := b.flooded[row.entry]
		if !ok {
			continue
		}
		of := func(n int) string { return fmt.Sprintf("%.0f %%", 100*float64(n)/float64(max(f.Due, 1))) }
		fmt.Fprintf(t, "| %s | %s | %s | %s | %.0f %% | %.2f | %.2f | %s | %s | %s |\n", row.name(), row.batched, number(f.capacity), number(f.Goodput()), 100*f.Goodput()/f.capacity,
			f.Latency.Quantile(.5).Seconds(), f.Latency.Quantile(.99).Seconds(), of(f.Refused), of(f.Failed), of(f.Unsent))
	}
}
