package batcher

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func seeded(maxRows int, takes func(int) time.Duration) *Cost {
	c := NewCost(maxRows, 2)
	for n := 1; n <= maxRows; n *= 2 {
		c.Seed(n, 0, takes(n))
	}
	return c
}

func within(t *testing.T, what string, got, want time.Duration, tolerance float64) {
	t.Helper()
	if math.Abs(float64(got)/float64(want)-1) > tolerance {
		t.Errorf("%s: %v, want %v within %.0f %%", what, got, want, 100*tolerance)
	}
}

func TestCostInterpolates(t *testing.T) {
	takes := linear(4*millisecond, millisecond/4)
	c := seeded(32, takes)
	for n := 1; n <= 32; n++ {
		within(t, "estimate", c.Estimate(n, 0), takes(n), 1e-6)
		within(t, "beside another run, of which nothing is known", c.Estimate(n, 1), takes(n), 1e-6)
	}
	within(t, "beyond the table", c.Estimate(64, 0), 2*takes(32), 1e-6)
	if got := NewCost(8, 1).Estimate(3, 0); got != 0 {
		t.Errorf("an empty table says %v", got)
	}
}

func TestCostColumns(t *testing.T) {
	takes := linear(4*millisecond, millisecond/4)
	c := seeded(32, takes)
	c.Seed(8, 1, 2*takes(8)) // one cell: the rest of the column follows its shape
	for n := 1; n <= 32; n++ {
		within(t, "beside another run", c.Estimate(n, 1), 2*takes(n), 1e-6)
		within(t, "alone", c.Estimate(n, 0), takes(n), 1e-6)
	}
}

// Sizes that were swept only keep their proportion to the nearest one that was run since: where requests are longer than
// the sweep's, all sizes are dearer, also those that never came.
func TestSweptSizesFollow(t *testing.T) {
	swept, takes := linear(millisecond/20, millisecond/30), linear(millisecond/2, millisecond/3)
	c := seeded(64, swept)
	for range 100 {
		c.Observe(16, 0, takes(16))
	}
	for _, n := range []int{1, 4, 16, 32, 64} {
		within(t, "with 16 run", c.Estimate(n, 0), takes(n), .01)
	}
	for range 100 {
		c.Observe(64, 0, takes(64)*2) // of its own now
	}
	for range 100 {
		c.Observe(16, 0, takes(16)*2) // and what lies between follows one of the two, and not both
	}
	for _, n := range []int{1, 16, 32, 64} {
		within(t, "twice as slow", c.Estimate(n, 0), takes(n)*2, .01)
	}
	for range 100 {
		c.Observe(16, 0, takes(16))
	}
	within(t, "one that was run", c.Estimate(64, 0), takes(64)*2, .01)
}

// Of runs beside another the sweep has one of a single row. The first two of another size say what all cost: one might be an accident.
func TestSizesNeverSweptFollow(t *testing.T) {
	swept, takes := linear(millisecond/20, millisecond/30), linear(millisecond/2, millisecond/3)
	c := seeded(64, swept)
	c.Seed(1, 1, swept(1))
	c.Observe(16, 1, takes(16))
	c.Observe(16, 1, takes(16))
	for _, n := range []int{1, 2, 4, 8, 12, 16, 32, 64} {
		within(t, "beside another run", c.Estimate(n, 1), takes(n), .01)
	}
}

// A request of as many rows as are enough for a run, or more, goes by itself, and is priced so: fewer rows may be
// cheaper by the row than they are, as long as none of their number was run.
func TestWhatRunsAloneIsPricedSo(t *testing.T) {
	c := NewCost(64, 1)
	for n, took := range map[int]time.Duration{1: millisecond, 4: millisecond, 16: 12 * millisecond, 64: 48 * millisecond} {
		c.Seed(n, 0, took)
	}
	b := &Batcher[struct{}]{cost: c}
	b.parallel, b.limit, b.enough = 1, 64, 7
	for _, waiting := range []int{0, 5, 16, 160} {
		within(t, "16 rows more", b.added(16, waiting), 12*millisecond, .001)
	}
}

func TestKnee(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes func(int) time.Duration
		want  int
	}{
		{"half fixed, half by the row", linear(4*millisecond, millisecond/4), 24},
		{"by the row alone", linear(0, 4*millisecond), 1},
		{"the same for any size", linear(4*millisecond, 0), 29},
	} {
		if got := seeded(32, c.takes).Knee(); got != c.want {
			t.Errorf("%s: knee %d, want %d", c.name, got, c.want)
		}
	}
	if got := NewCost(32, 1).Knee(); got != 0 {
		t.Errorf("an empty table has its knee at %d", got)
	}
}

// TestCostLearns: from nothing, from runs of random sizes with 5 % noise and
// an outlier in twenty, the table comes close to the truth.
func TestCostLearns(t *testing.T) {
	takes := linear(4*millisecond, millisecond/4)
	rng := rand.New(rand.NewPCG(1, 1))
	c := NewCost(32, 2)
	for i := range 4000 {
		n, k := 1+rng.IntN(32), i%2
		d := float64(takes(n)) * float64(1+k) * (1 + .05*rng.NormFloat64())
		if rng.IntN(20) == 0 {
			d *= 20
		}
		c.Observe(n, float64(k), time.Duration(d))
	}
	for n := 1; n <= 32; n++ {
		within(t, "alone", c.Estimate(n, 0), takes(n), .3)
		within(t, "beside another", c.Estimate(n, 1), 2*takes(n), .3)
	}
}

func TestCostFollowsALastingChange(t *testing.T) {
	takes := linear(millisecond, millisecond/8)
	for _, factor := range []int{10, 1} {
		c := seeded(32, takes)
		for range 60 {
			c.Observe(16, 0, time.Duration(factor)*takes(16))
		}
		within(t, "after a change", c.Estimate(16, 0), time.Duration(factor)*takes(16), .1)
	}
}

func TestCostIsNotPoisoned(t *testing.T) {
	takes := linear(millisecond, millisecond/8)
	c := seeded(32, takes)
	c.Observe(16, 0, time.Minute)
	within(t, "after one outlier", c.Estimate(16, 0), takes(16), .15)
}

// TestCostStaysMonotone: whatever is observed, more rows never cost less, and
// every estimate is positive and finite.
func TestCostStaysMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, executors := rapid.IntRange(1, 100).Draw(t, "rows"), rapid.IntRange(1, 4).Draw(t, "executors")
		c := NewCost(rows, executors)
		for range rapid.IntRange(1, 50).Draw(t, "observations") {
			n := rapid.IntRange(1, rows).Draw(t, "n")
			d := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "took"))
			if rapid.IntRange(0, 3).Draw(t, "seed") == 0 {
				c.Seed(n, rapid.IntRange(0, executors).Draw(t, "k"), d)
			} else {
				c.Observe(n, rapid.Float64Range(-1, 5).Draw(t, "others"), d)
			}
			for k := range executors + 1 {
				last := 0.0
				for n := 1; n <= rows+2; n++ {
					est := c.estimate(n, k)
					if !(est >= last*(1-1e-9)) || math.IsInf(est, 0) || est <= 0 && c.source(k) != nil {
						t.Fatalf("estimate(%d, %d) = %v after %v for one row less", n, k, est, last)
					}
					last = est
				}
			}
			if knee := c.Knee(); knee < 1 && c.explored() > 0 || knee > rows {
				t.Fatalf("knee %d of %d rows", knee, rows)
			}
		}
	})
}

func TestCostJSON(t *testing.T) {
	c := seeded(24, linear(4*millisecond, millisecond/4))
	c.Observe(5, .9, 11*millisecond)
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Cost
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	for k := range 2 {
		for n := 1; n <= 30; n++ {
			within(t, "read back", back.P95(n, k), c.P95(n, k), 1e-3)
		}
	}
	back.Observe(3, 0, time.Millisecond)
}

// FuzzCostJSON: a stored table is refused, or can be used.
func FuzzCostJSON(f *testing.F) {
	for _, s := range []string{
		`{"sizes":[1,2],"columns_ns":[[5,6],null],"spread":1}`, `{"sizes":[2,1],"columns_ns":[[5,6]]}`,
		`{"sizes":[1],"columns_ns":[[0]]}`, `{"sizes":[1],"columns_ns":[[1,2]]}`, `{"sizes":[],"columns_ns":[]}`,
		`{"sizes":[1],"columns_ns":[[1e300]],"spread":-1}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Cost
		if err := c.UnmarshalJSON(data); err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%v is not classified", err)
			}
			return
		}
		for k := range 3 {
			c.Observe(3, float64(k), time.Millisecond)
			if c.Estimate(7, k) < 0 || c.Knee() < 0 {
				t.Errorf("estimate %v, knee %d", c.Estimate(7, k), c.Knee())
			}
		}
	})
}

// TestHeap compares the heap with a sorted list.
func TestHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := heap[int]{which: byDue}
		var model []*Task[int]
		for seq := range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(model) > 0 && rapid.Bool().Draw(t, "remove") {
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				h.remove(model[i])
				model = slices.Delete(model, i, i+1)
			} else {
				task := &Task[int]{}
				task.key, task.seq = time.Duration(rapid.IntRange(0, 9).Draw(t, "key")), uint64(seq)
				h.push(task.key, task)
				i, _ := slices.BinarySearchFunc(model, task, func(a, b *Task[int]) int {
					if (node[int]{a.key, a.seq, a}).before(node[int]{b.key, b.seq, b}) {
						return -1
					}
					return 1
				})
				model = slices.Insert(model, i, task)
			}
			if h.len() != len(model) || len(model) > 0 && h.head() != model[0] {
				t.Fatal("the head is not the first")
			}
		}
	})
}

// TestDemand compares the slots with the sums that they stand for.
func TestDemand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const horizon = 600 * time.Millisecond // slots of 10 ms
		d := newDemand(horizon)
		now := time.Duration(rapid.IntRange(0, 1e6).Draw(t, "now")) * millisecond
		type job struct{ key, work time.Duration }
		var jobs []job
		for range rapid.IntRange(0, 20).Draw(t, "jobs") {
			j := job{now + time.Duration(rapid.IntRange(0, 600).Draw(t, "key"))*millisecond, time.Duration(rapid.IntRange(0, 50).Draw(t, "work")) * millisecond}
			jobs = append(jobs, j)
			d.add(j.key, j.work)
		}
		key := now + time.Duration(rapid.IntRange(0, 600).Draw(t, "at"))*millisecond
		low, high := time.Duration(0), time.Duration(0)
		for _, j := range jobs {
			if j.key <= key {
				low += j.work
			}
			if j.key < key+10*millisecond {
				high += j.work
			}
		}
		if got := d.until(now, key); got < low || got > high {
			t.Fatalf("%v queued until then, want %v to %v", got, low, high)
		}
		late := false // clearly so, whatever the slots' rounding
		for _, j := range jobs {
			sum := time.Duration(0)
			for _, i := range jobs {
				if i.key <= j.key {
					sum += i.work
				}
			}
			late = late || now+sum > j.key+10*millisecond
		}
		if d.fits(now, now-20*millisecond, 0, 0, 1) && late {
			t.Fatal("work that cannot be in time is said to fit")
		}
		for _, j := range jobs {
			d.add(j.key, -j.work)
		}
		if d.total != 0 || d.until(now, now+horizon) != 0 {
			t.Fatal("work is left")
		}
	})
}

// Only what was measured is told, and more rows never cost less.
func TestPointsAreWhatWasMeasured(t *testing.T) {
	c := NewCost(16, 4)
	if points, spread := c.points(); len(points) != 0 || spread != 1 {
		t.Errorf("an empty table has %v, spread %v", points, spread)
	}
	c.Seed(1, 0, 10)
	c.Seed(4, 0, 20)
	c.Seed(2, 2, 40)
	points, _ := c.points()
	rows := map[int]int{}
	for i, p := range points {
		rows[p.Beside] = max(rows[p.Beside], p.Rows)
		if p.Run <= 0 || i > 0 && points[i-1].Beside == p.Beside && p.Run < points[i-1].Run {
			t.Errorf("point %d of %v", i, points)
		}
	}
	if len(rows) != 2 || rows[0] != 4 || rows[2] != 2 {
		t.Errorf("%v: want up to 4 rows alone, and up to 2 beside two others", points)
	}
}

// A quantile that was pushed up by a bad time is down again after a few dozen numbers.
func TestQuantileComesDown(t *testing.T) {
	q := quantile{value: maxOptimism}
	for range 30 {
		q.observe(1, .97, .1)
	}
	if q.value > faraway {
		t.Errorf("%v after 30 numbers of 1", q.value)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	above, n := 0, 20_000
	for i := range n {
		x := math.Exp(rng.NormFloat64() / 4)
		if i > n/2 && x > q.value {
			above++
		}
		q.observe(x, .97, .1)
	}
	if share := float64(above) / float64(n/2); share < .01 || share > .06 {
		t.Errorf("%.3f of the numbers are above their 97th percentile", share)
	}
}
