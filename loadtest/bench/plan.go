package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"sluice/internal/client"
	"sluice/internal/client/plan"
	"sluice/loadtest/load"
	"sluice/loadtest/target"
	"sluice/loadtest/workload"
)

// How far predictions may be off, up or down, on a machine that is ours alone.
const (
	capacityOff = 1.5
	bandOff     = 1.15 // beyond either end of a band of quantiles
	slice       = 3 * time.Millisecond
	oursAlone   = 0.10 // the most that others may take of the cores; where it is more nothing is judged
)

// planConns is how many connections the generator has.
const planConns = 128

// measurePlan compares what `sluice plan` predicts with a real run: how much a node can
// do, and the latencies of an open loop at 30, 60 and 80 % of that. The prediction is
// made before, from what the node has measured at loading and from its answers to a
// single connection. It fails where the capacity or a quantile is off by more than the
// factors above, unless the run is a short one or others had too much of the machine.
func measurePlan(ctx context.Context, b *bench) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	busy, err := b.handling(ctx, s)
	if err != nil {
		return err
	}
	worst := map[string]float64{}
	for _, name := range []string{"mid_mlp", "small_cnn", "transformer"} {
		if err := b.planModel(ctx, s, name, busy, worst); err != nil {
			return err
		}
	}
	for _, what := range []struct {
		name string
		off  float64
	}{{"plan_capacity", capacityOff}, {"plan_p50", bandOff}, {"plan_p99", bandOff}} {
		if off, ok := worst[what.name]; ok {
			b.report.set(what.name, off)
			if off > what.off && !b.short { // a short run is too short for a 99th percentile
				err = errors.Join(err, fmt.Errorf("%s is off by a factor of %.2f, more than %.2f", what.name, off, what.off))
			}
		}
	}
	return err
}

// planModel checks the plan of one model, and notes the worst factors.
func (b *bench) planModel(ctx context.Context, s *target.Sluice, name string, busy time.Duration, worst map[string]float64) error {
	w, err := b.workload(ctx, s, name, 1, load.Binary)
	if err != nil {
		return err
	}
	pool, err := load.Dial(s.HTTP, planConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	node, demand, err := b.know(ctx, s, w)
	if err != nil {
		return err
	}
	demand.Request, demand.Wake = min(busy, demand.Request), max(demand.Request-busy, 0)
	watch := aside(s)
	most, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, w.Model, b.span(3*time.Second))
	if err != nil {
		return err
	}
	want, err := plan.Predict(node, demand)
	if err != nil {
		return err
	}
	others := watch.Others()
	b.report.line("%-12s beside its run a request costs %.0f us of a busy node and %.0f more of an idle one, the generator's included; jitter %.2f ms; others take %.0f%%; most predicted %.0f measured %.0f/s, others took %.0f%%", name,
		micros(demand.Request), micros(demand.Wake), millis(demand.Jitter), 100*demand.Others, want.Peak, most.Rate(), 100*others)
	note := func(what string, quiet bool, least, most, measured float64) {
		if off := max(least/measured, measured/most, 1); quiet && !(off <= worst[what]) {
			worst[what] = off
		}
	}
	note("plan_capacity", others <= oursAlone, want.Peak, want.Peak, most.Rate())
	for i, share := range []float64{0.3, 0.6, 0.8} {
		demand.Rate = share * min(want.Peak, most.Rate())
		at, err := plan.Predict(node, demand)
		if err != nil {
			return err
		}
		watch := aside(s)
		r, err := pool.Open(ctx, load.Load{Requests: w.Requests, Backoff: backoff}, load.Poisson(demand.Rate, uint64(i)), b.span(5*time.Second))
		if err != nil {
			return err
		}
		others := watch.Others()
		p50, p99 := r.Latency.Quantile(.5), r.Latency.Quantile(.99)
		b.report.line("%-12s at %3.0f%%, %6.0f/s: p50 predicted %s measured %.2f ms, p99 predicted %s measured %.2f ms, refused %d of %d, others took %.0f%%", name, 100*share, demand.Rate,
			bounds(at.P50, at.MostP50), millis(p50), bounds(at.P99, at.MostP99), millis(p99), r.Refused, r.Due, 100*others)
		note("plan_p50", others <= oursAlone, millis(at.P50), millis(at.MostP50), millis(p50))
		note("plan_p99", others <= oursAlone, millis(at.P99), millis(at.MostP99), millis(p99))
	}
	return nil
}

// bounds says between which times a latency is expected; the upper one may be unknown.
func bounds(least, most time.Duration) string {
	if most == math.MaxInt64 {
		return fmt.Sprintf("%.2f or more", millis(least))
	}
	return fmt.Sprintf("%.2f to %.2f", millis(least), millis(most))
}

// handling returns the CPU time of a request beside its run while there are many: nearly
// all that a request costs whose model does next to nothing. The generator's is included,
// since it is on the same cores.
func (b *bench) handling(ctx context.Context, s *target.Sluice) (time.Duration, error) {
	w, err := b.workload(ctx, s, "tiny_mlp", 1, load.Binary)
	if err != nil {
		return 0, err
	}
	pool, err := load.Dial(s.HTTP, planConns)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	r, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, w.Model, b.span(2*time.Second))
	if err != nil {
		return 0, err
	}
	return (r.cpu + r.generator) / time.Duration(max(r.OK, 1)), nil
}

// know returns what a prediction rests on: the node's costs, and what one connection
// shows of requests beside their runs: their CPU time, the generator's included, how much
// longer than the median the slowest take, and what others take of the machine.
func (b *bench) know(ctx context.Context, s *target.Sluice, w *workload.Workload) (plan.Node, plan.Demand, error) {
	var node plan.Node
	d := plan.Demand{Rate: 1, Rows: 1, P99: time.Minute, Slice: slice}
	c, err := client.New(client.Config{URL: "http://" + s.HTTP})
	if err != nil {
		return node, d, err
	}
	defer c.Close()
	pool, err := load.Dial(s.HTTP, 1)
	if err != nil {
		return node, d, err
	}
	defer pool.Close()
	watch := aside(s)
	one, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, w.Model, b.span(2*time.Second))
	if err != nil {
		return node, d, err
	}
	if err := c.Get(ctx, "/v1/models/"+w.Model+"/costs", &node); err != nil {
		return node, d, err
	}
	alone := math.Inf(1)
	for _, cost := range node.Costs {
		if cost.Rows == 1 {
			alone = min(alone, cost.RunMS)
		}
	}
	each := time.Duration(float64(one.cpu+one.generator) / float64(max(one.OK, 1)))
	d.Request = max(each-time.Duration(alone*float64(time.Millisecond)), 0)
	d.Others = min(watch.Others(), 0.9)
	d.Jitter = max(one.Latency.Quantile(.99)-one.Latency.Quantile(.5), 0)
	return node, d, nil
}
