package plan

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// linear is a node with one executor whose runs take alpha ms for each row and tau
// ms in all, and have no most.
func linear(alpha, tau float64) Node {
	n := Node{Model: "m", MaxRows: 4096, Executors: 1, Cores: 1, Spread: 1}
	for rows := 1; rows <= n.MaxRows; rows *= 2 {
		n.Costs = append(n.Costs, Cost{Rows: rows, RunMS: alpha*float64(rows) + tau})
	}
	return n
}

// The mean of the simulation lies below Inoue's closed form, which is an upper
// bound, and near it: arXiv:1912.06322, theorem 2.
func TestMeansKeepInouesBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		alpha, tau := rapid.Float64Range(.1, 2).Draw(rt, "alpha"), rapid.Float64Range(.1, 5).Draw(rt, "tau")
		load := rapid.Float64Range(.05, .9).Draw(rt, "load")
		lambda := load / alpha // per ms
		m, err := newModel(linear(alpha, tau), Demand{Rate: 1, Rows: 1, P99: time.Second})
		if err != nil {
			rt.Fatal(err)
		}
		got := float64(m.simulate(1000*lambda).mean) / float64(time.Millisecond)
		phi0 := (alpha + tau) / (2 * (1 - lambda*alpha)) * (1 + 2*lambda*tau + (1-lambda*tau)/(1+lambda*alpha))
		phi1 := 1.5*tau/(1-lambda*alpha) + alpha/2*(lambda*alpha+2)/(1-lambda*alpha*lambda*alpha)
		bound := min(phi0, phi1)
		if got > 1.05*bound || got < .6*bound {
			rt.Fatalf("alpha %.2f, tau %.2f, load %.2f: the mean is %.3f ms, the bound %.3f", alpha, tau, load, got, bound)
		}
	})
}

func TestPlansKeepTheirPromise(t *testing.T) {
	for _, c := range []struct {
		alpha, tau            float64
		executors, rows, cost int // cost of a request in µs
		rate                  float64
		spare                 int
	}{
		{.05, .05, 1, 1, 0, 1, 0}, {.05, .05, 3, 4, 200, 1e5, 2}, {1, .05, 2, 1, 60, 5000, 1}, {.05, 2, 1, 1, 60, 20_000, 1}, {1, 2, 3, 4, 0, 700, 0},
	} {
		n := linear(c.alpha, c.tau)
		n.MaxRows, n.Executors, n.Cores = 32, c.executors, 4
		d := Demand{Rate: c.rate, Rows: c.rows, P99: 50 * time.Millisecond, Request: time.Duration(c.cost) * time.Microsecond, Spare: c.spare}
		p, err := For(n, d)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if p.P99 > d.P99*102/100 || p.Most > p.Peak || p.PerNode*float64(p.Nodes) < d.Rate*.999 || p.P50 > p.P99 || p.Batch < float64(d.Rows)*.999 || p.Busy <= 0 || p.Busy > 1 {
			t.Errorf("%+v for %+v", p, c)
		}
		if fewer := float64(p.Nodes - d.Spare - 1); fewer > 0 && fewer*p.Most >= d.Rate {
			t.Errorf("%+v for %+v: fewer nodes are enough", p, c)
		}
		d.Rate *= 2
		if more, err := For(n, d); err != nil || more.Nodes < p.Nodes {
			t.Errorf("%+v: twice as much needs %d nodes instead of %d, %v", c, more.Nodes, p.Nodes, err)
		}
	}
}

func TestWhatCannotBePlannedSaysWhy(t *testing.T) {
	n, d := linear(1, 5), Demand{Rate: 10, Rows: 1, P99: 50 * time.Millisecond}
	for want, change := range map[string]func(*Node, *Demand){
		"one request alone":    func(_ *Node, d *Demand) { d.P99 = 3 * time.Millisecond },
		"nothing was measured": func(n *Node, _ *Demand) { n.Costs = nil },
		"more than 0 requests": func(_ *Node, d *Demand) { d.Rate = math.NaN() },
		"1 to 4096 rows":       func(_ *Node, d *Demand) { d.Rows = 5000 },
		"99th percentile must": func(_ *Node, d *Demand) { d.P99 = 0 },
		"negative":             func(_ *Node, d *Demand) { d.Spare = -1 },
		"cores":                func(n *Node, _ *Demand) { n.Cores = 0 },
		"nodes: ask for less":  func(_ *Node, d *Demand) { d.Rate = 1e12 },
	} {
		n, d := n, d
		change(&n, &d)
		if p, err := For(n, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want an error with %q", p, err, want)
		}
	}
	if _, err := Predict(n, Demand{Rate: 1e9, Rows: 1, P99: time.Second}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a rate beyond the peak: %v", err)
	}
}
