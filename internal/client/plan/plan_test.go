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
		load := rapid.Float64Range(.05, .7).Draw(rt, "load")
		lambda := load / alpha // per ms
		m, err := newModel(linear(alpha, tau), Demand{Rate: 1, Rows: 1, P99: time.Second})
		if err != nil {
			rt.Fatal(err)
		}
		m.arrivals = 8000 // which is few near the peak
		got := float64(m.simulate(1000*lambda).mean) / float64(time.Millisecond)
		phi0 := (alpha + tau) / (2 * (1 - lambda*alpha)) * (1 + 2*lambda*tau + (1-lambda*tau)/(1+lambda*alpha))
		phi1 := 1.5*tau/(1-lambda*alpha) + alpha/2*(lambda*alpha+2)/(1-lambda*alpha*lambda*alpha)
		bound := min(phi0, phi1)
		if got > 1.1*bound || got < .6*bound {
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
		"100000 spare nodes":   func(_ *Node, d *Demand) { d.Spare = math.MaxInt },
		"at least 1 row":       func(_ *Node, d *Demand) { d.Rows = 0 },
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

// One request at a time is the M/D/1 queue, whose mean Pollaczek and Khinchine know.
func TestOneAtATimeIsKnown(t *testing.T) {
	for _, load := range []float64{.1, .5, .8} {
		n := linear(0, 1)
		n.MaxRows = 1
		got, err := Predict(n, Demand{Rate: 1000 * load, Rows: 1, P99: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		m, _ := newModel(n, Demand{Rate: 1, Rows: 1, P99: time.Second})
		mean, want := m.simulate(1000*load).mean.Seconds()*1000, 1+load/(2*(1-load))
		if mean < .93*want || mean > 1.07*want || got.Busy < .97*load || got.Busy > 1.03*load {
			t.Errorf("load %v: mean %.3f ms, want %.3f; busy %.3f", load, mean, want, got.Busy)
		}
	}
}

// Whatever the cores are shared by, no work is lost: they are busy for as long as it
// takes.
func TestWorkIsConserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := linear(rapid.Float64Range(.1, 1).Draw(rt, "alpha"), 0) // a request costs the same in any run
		n.MaxRows, n.Executors, n.Cores = rapid.IntRange(1, 16).Draw(rt, "rows"), rapid.IntRange(1, 4).Draw(rt, "executors"), rapid.IntRange(1, 4).Draw(rt, "cores")
		d := Demand{Rate: 1, Rows: 1, P99: time.Second, Request: time.Duration(rapid.IntRange(0, 500).Draw(rt, "request")) * time.Microsecond, Others: rapid.SampledFrom([]float64{0, .5}).Draw(rt, "others")}
		m, err := newModel(n, d)
		if err != nil {
			rt.Fatal(err)
		}
		m.arrivals = 4000
		rate := rapid.Float64Range(.1, .7).Draw(rt, "load") * m.peak()
		want := rate * (d.Request.Seconds() + m.runs[0][0]) / m.cores
		if got := m.simulate(rate).busy; got < .9*want || got > 1.1*want {
			rt.Fatalf("busy %.3f, want %.3f", got, want)
		}
	})
}

// What threads wait for a core widens the band, the more the busier a node is; a plan keeps its
// promise with it.
func TestSlicesMakeABand(t *testing.T) {
	n := linear(.05, .05)
	n.MaxRows, n.Executors, n.Cores = 8, 2, 2
	d := Demand{Rate: 1, Rows: 1, P99: 20 * time.Millisecond, Request: 50 * time.Microsecond}
	exact, err := For(n, d)
	if err != nil {
		t.Fatal(err)
	}
	if exact.MostP99 != exact.P99 || exact.MostP50 != exact.P50 {
		t.Errorf("without slices %+v has a band", exact)
	}
	d.Slice = 3 * time.Millisecond
	var width time.Duration
	for _, share := range []float64{.3, .6, .8} {
		d.Rate = share * exact.Peak // cores are busier than that: the peak is that of full runs
		p, err := Predict(n, d)
		if err != nil {
			t.Fatal(err)
		}
		if p.MostP99-p.P99 <= width || p.MostP50 <= p.P50 || p.MostP99 < p.MostP50 {
			t.Errorf("at %.0f %%: %+v", 100*share, p)
		}
		width = p.MostP99 - p.P99
	}
	d.Rate, d.P99 = 5*exact.Peak, 10*time.Millisecond
	p, err := For(n, d)
	if err != nil || p.MostP99 > d.P99*102/100 || p.Most >= exact.Most {
		t.Errorf("%+v, %v; without slices %+v", p, err, exact)
	}
	d.Rate, d.P99, d.Others = 1, 10*time.Millisecond, .5
	if p, err = For(n, d); err != nil || p.MostP99-p.P99 < 9*time.Millisecond {
		t.Errorf("half of the cores are others': %+v, %v", p, err)
	}
	for others, want := range map[float64]string{.6: "one request alone takes", .96: "no latency can be promised"} {
		d.Others = others
		if p, err := For(n, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("others take %.2f: %+v, %v", others, p, err)
		}
	}
	d.Slice = -1
	if _, err := For(n, d); err == nil || !strings.Contains(err.Error(), "slice") {
		t.Errorf("a negative slice: %v", err)
	}
}

func TestClusters(t *testing.T) {
	n := linear(.5, 1)
	n.MaxRows, n.Executors, n.Cores, n.Spread = 8, 2, 2, 1.3
	d := Demand{Rate: 4 * 1200, Rows: 1, P99: time.Second, Request: 50 * time.Microsecond}
	p99 := map[Balance]time.Duration{}
	for _, b := range []Balance{Random, RoundRobin, LeastOfTwo} {
		p, err := Cluster(n, d, 4, b)
		if err != nil {
			t.Fatal(err)
		}
		p99[b] = p.P99
	}
	d.Rate /= 4
	one, err := Predict(n, d)
	if err != nil {
		t.Fatal(err)
	}
	if r := float64(p99[Random]) / float64(one.P99); r < .85 || r > 1.15 {
		t.Errorf("a node of four answers within %s, one alone within %s", p99[Random], one.P99)
	}
	if p99[LeastOfTwo] >= p99[Random] || p99[RoundRobin] >= p99[Random] {
		t.Errorf("%v: chance is the worst balance", p99)
	}
	d.Jitter = 10 * time.Millisecond
	if noisy, err := Predict(n, d); err != nil || noisy.P99 < max(one.P99, d.Jitter) || noisy.P99 > one.P99+d.Jitter {
		t.Errorf("with jitter %s, %v; without %s", noisy.P99, err, one.P99)
	}
	d.Rate *= 1000
	if _, err := Cluster(n, d, 4, Random); err == nil {
		t.Error("four nodes do a thousand times as much")
	}
	d.Others = 1
	if _, err := Predict(n, d); err == nil || !strings.Contains(err.Error(), "below 1") {
		t.Errorf("others take everything: %v", err)
	}
}
