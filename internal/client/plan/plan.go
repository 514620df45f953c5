// Package plan says how many nodes a model needs, from its measured run times.
//
// A node is simulated by its events, with a fixed seed: requests arrive independently
// of each other (Poisson), are handled (wire, decoding) on the cores, wait for an
// executor, run together up to the most rows of a run, and are handled again. A run
// takes what the node has measured for so many rows beside so many other runs,
// spread as measured. Runs and handling share the cores. That is the queue with batch
// service of Inoue, "Queueing analysis of GPU-based inference servers with dynamic batching" (Performance
// Evaluation 147, 2021; arXiv:1912.06322), with measured instead of linear times, with a most for
// the rows, and with several executors; the tests hold the simulation's means to his
// closed form.
//
// The simulation shares the cores evenly at every moment. A system gives them in slices of
// milliseconds, and whoever comes while all are taken waits for some of these, which for small models is
// far longer than all else. So quantiles are a band: at least what the simulation says, at most that
// and the slices.
//
// Limits: one model on a node, and requests of one size. docs/CAPACITY.md compares it
// with a real run.
package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Cost is what a run of some rows takes beside other runs.
type Cost struct {
	Rows   int     `json:"rows"`
	Beside int     `json:"beside"`
	RunMS  float64 `json:"run_ms"`
}

// Node is what is known of a model on one node, as GET /v1/models/{model}/costs has it.
type Node struct {
	Model     string  `json:"model"`
	Version   string  `json:"version"`
	MaxRows   int     `json:"max_rows"`
	Executors int     `json:"executors"`
	Cores     int     `json:"cores"`
	Spread    float64 `json:"spread"`
	Costs     []Cost  `json:"costs"`
}

// Demand is what is asked for.
type Demand struct {
	Rate    float64       // requests per second
	Rows    int           // of each
	P99     time.Duration // of the answers
	Request time.Duration // CPU time of a request beside its run, on a busy node
	Wake    time.Duration // and how much more where none is being handled
	Spare   int           // nodes that may fail
	Others  float64       // share of a node's cores that other work takes, from 0 to below 1
	Jitter  time.Duration // 99th percentile of what answers take longer than that, for want of a quiet machine
	Slice   time.Duration // how long a thread keeps a core that others wait for; 0 where threads need not wait for each other
}

// Plan is the answer.
type Plan struct {
	Nodes    int           // spare ones included
	PerNode  float64       // requests per second of a node when all of them run
	Most     float64       // requests per second that one node answers with MostP99 within P99; at most nine tenths of Peak
	Peak     float64       // requests per second beyond which a node's queue grows forever
	Busy     float64       // share of a node's cores, at PerNode
	Batch    float64       // mean rows in a run, at PerNode
	Parallel int           // runs at a time
	P50, P99 time.Duration // at least
	// MostP50 and MostP99 are what these are at most, for what threads wait for a core; the greatest Duration where nothing can be said.
	MostP50, MostP99 time.Duration
}

// full is the share of the peak that a plan makes use of: near the peak a queue
// takes so long to settle that no simulation, and no hour of the day, shows its end.
const full = .9

// maxNodes is the largest answer.
const maxNodes = 100_000

// For returns a plan. It fails where the demand makes no sense, where nothing was
// measured, and where no number of nodes is enough, since one request alone takes too long.
func For(n Node, d Demand) (Plan, error) {
	m, err := newModel(n, d)
	if err != nil {
		return Plan{}, err
	}
	alone := m.atMost(m.simulate(m.peak() * 0.001))
	switch {
	case alone.p99 == unbounded:
		return Plan{}, fmt.Errorf("%s: others take %.0f%% of the cores, beside which no latency can be promised: leave the node more of them", n.Model, 100*d.Others)
	case alone.p99 > d.P99:
		return Plan{}, fmt.Errorf("%s: one request alone takes %s at the 99th percentile, more than %s: no number of nodes helps; allow more time, send fewer rows, take a faster model, or leave it more of the cores", n.Model, alone.p99.Round(10*time.Microsecond), d.P99)
	}
	p := Plan{Peak: m.peak(), Parallel: m.parallel}
	lo, hi := p.Peak*0.001, full*p.Peak // bisection: latency grows with the rate
	for range 14 {
		if mid := (lo + hi) / 2; m.atMost(m.simulate(mid)).p99 <= d.P99 {
			lo = mid
		} else {
			hi = mid
		}
	}
	p.Most = lo
	need := math.Ceil(d.Rate/p.Most - 1e-9)
	if need > maxNodes {
		return Plan{}, fmt.Errorf("more than %d nodes: ask for less", maxNodes)
	}
	p.Nodes = int(max(need, 1)) + d.Spare
	p.PerNode = d.Rate / float64(p.Nodes)
	at := m.simulate(p.PerNode)
	p.P50, p.P99, p.Batch, p.Busy = at.p50, at.p99, at.batch, at.busy
	most := m.atMost(at)
	p.MostP50, p.MostP99 = most.p50, most.p99
	return p, nil
}

// Predict returns what one node does at a rate of requests per second: the
// plan of a single node.
func Predict(n Node, d Demand) (Plan, error) {
	m, err := newModel(n, d)
	if err != nil {
		return Plan{}, err
	}
	if err := m.below(n, d.Rate); err != nil {
		return Plan{}, err
	}
	return m.plan(1, m.simulate(d.Rate)), nil
}

// below fails where a node cannot keep up with a rate.
func (m *model) below(n Node, rate float64) error {
	if rate >= m.peak() {
		return fmt.Errorf("%s: a node answers at most %.4g requests per second", n.Model, m.peak())
	}
	return nil
}

func (m *model) plan(nodes int, at sample) Plan {
	most := m.atMost(at)
	return Plan{Nodes: nodes, PerNode: m.Rate / float64(nodes), Peak: m.peak(), Parallel: m.parallel, P50: at.p50, P99: at.p99, MostP50: most.p50, MostP99: most.p99, Batch: at.batch, Busy: at.busy}
}

// Check fails where a demand makes no sense, whatever the node.
func (d Demand) Check() error {
	switch {
	case !(d.Rate > 0) || math.IsInf(d.Rate, 0):
		return errors.New("the rate must be more than 0 requests per second")
	case d.Rows < 1:
		return errors.New("a request has at least 1 row")
	case d.P99 <= 0:
		return errors.New("the 99th percentile must be more than 0")
	case !(d.Others >= 0 && d.Others < 1) || d.Jitter < 0:
		return errors.New("others take a share of the cores from 0 to below 1, and the jitter is not negative")
	case d.Request < 0 || d.Wake < 0 || d.Spare < 0 || d.Slice < 0:
		return errors.New("neither a request's cost nor the spare nodes nor the slice can be negative")
	case d.Spare > maxNodes:
		return fmt.Errorf("more than %d spare nodes: ask for less", maxNodes)
	}
	return nil
}

func (d Demand) check(n Node) error {
	if err := d.Check(); err != nil {
		return err
	}
	switch {
	case d.Rows > max(n.MaxRows, 1):
		return fmt.Errorf("a request has 1 to %d rows, the most of a run", max(n.MaxRows, 1))
	case n.Cores < 1 || n.Executors < 1:
		return errors.New("the node has neither cores nor executors: is it a Sluice of this version?")
	case len(n.Costs) == 0:
		return fmt.Errorf("nothing was measured of %s yet: send it some requests first", n.Model)
	}
	return nil
}

// known returns the costs beside so many other runs, or beside the nearest number that
// is known, by rows.
func (n Node) known(beside int) []Cost {
	nearest := n.Costs[0].Beside
	for _, c := range n.Costs {
		if abs(c.Beside-beside) < abs(nearest-beside) {
			nearest = c.Beside
		}
	}
	var out []Cost
	for _, c := range n.Costs {
		if c.Beside == nearest && c.Rows > 0 && c.RunMS > 0 {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Cost) int { return a.Rows - b.Rows })
	return out
}

func abs(x int) int { return max(x, -x) }

// run returns the seconds of a run of so many rows: between two known sizes by the
// line through them, beyond the largest in proportion to the rows.
func run(costs []Cost, rows int) float64 {
	i, _ := slices.BinarySearchFunc(costs, rows, func(c Cost, rows int) int { return c.Rows - rows })
	switch {
	case i == len(costs):
		last := costs[len(costs)-1]
		return last.RunMS / 1000 * float64(rows) / float64(last.Rows)
	case i == 0 || costs[i].Rows == rows:
		return costs[i].RunMS / 1000
	}
	a, b := costs[i-1], costs[i]
	w := float64(rows-a.Rows) / float64(b.Rows-a.Rows)
	return (a.RunMS*(1-w) + b.RunMS*w) / 1000
}
