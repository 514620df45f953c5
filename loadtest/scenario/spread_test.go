package scenario

import (
	"math/rand/v2"
	"testing"
	"time"

	"sluice/loadtest/load"
)

// sampled is a phase of ten seconds, each with some hundred latencies around a level of its own, which is
// near that of the second before.
func sampled(draw *rand.Rand, level time.Duration) *Series {
	r := &Series{ends: []time.Duration{10 * time.Second}, second: make([]Cell, 11), phases: make([]Cell, 1)}
	off := draw.NormFloat64()
	for i := range 10 {
		own := float64(level) * (1 + 0.1*off)
		off = 0.6*off + 0.8*draw.NormFloat64()
		for range 150 + draw.IntN(100) {
			r.record(load.Sample{Due: r.begin.Add(time.Duration(i) * time.Second), Outcome: load.OK, Latency: time.Duration(own * (0.5 + draw.ExpFloat64()))})
		}
	}
	return r
}

func report(r *Series) *Report {
	f := figure("steady", 10*time.Second, &r.phases[0])
	f.GoodSpread, f.P50Spread, f.P99Spread = r.spreads(0)
	return &Report{Traffic: []Outcome{{Name: "x", Phases: []Figure{f}}}}
}

// The interval of a sample of ten is by as much wider than with many, as Student's t says.
func TestWidening(t *testing.T) {
	for n, want := range map[int]float64{3: 4.303 / 1.96 * 1.225, 5: 2.776 / 1.96 * 1.118, 10: 2.262 / 1.96 * 1.054, 1000: 1} {
		if got := widening(n); got < 0.96*want || got > 1.02*want {
			t.Errorf("%d samples: %.3f, want %.3f", n, got, want)
		}
	}
	if got := (Spread{8, 14}).widened(10, 2); got != (Spread{6, 18}) {
		t.Errorf("8 to 14 around 10, twice as wide: %v", got)
	}
}

// Runs that differ by chance alone agree, all but a few; runs of which one takes two thirds longer do not.
func TestRunsAgreeUnlessTheyDiffer(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	const pairs = 60
	falsely, missed := 0, 0
	for range pairs {
		before := report(sampled(draw, 10*time.Millisecond))
		alike, slower := report(sampled(draw, 10*time.Millisecond)), report(sampled(draw, 17*time.Millisecond))
		list := alike.Compare(before)
		if len(list) != 3 {
			t.Fatalf("%d figures, want 3: %v", len(list), list)
		}
		for _, c := range list {
			if !c.Agree() {
				falsely++
			}
		}
		for _, c := range slower.Compare(before)[1:] { // as many are answered
			if c.Agree() {
				missed++
			}
		}
	}
	t.Logf("of %d pairs %d figures differed by chance, %d were taken for equal", pairs, falsely, missed)
	if falsely > 3*pairs/30 || missed > 2*pairs/20 {
		t.Errorf("of %d pairs %d figures differed by chance, and %d that differ were taken for equal", pairs, falsely, missed)
	}
}

// A run agrees with itself, and what is not there is not compared.
func TestWhatIsCompared(t *testing.T) {
	r := report(sampled(rand.New(rand.NewPCG(1, 2)), time.Millisecond))
	for _, c := range r.Compare(r) {
		if !c.Agree() {
			t.Error(c)
		}
	}
	folder := t.TempDir()
	r.Scenario = "a"
	if err := r.Write(folder); err != nil {
		t.Fatal(err)
	}
	again, err := ReadReport(folder, "a")
	if err != nil || len(r.Compare(again)) != 3 {
		t.Errorf("%d figures of a report that was written and read, %v", len(r.Compare(again)), err)
	}
	if list := r.Compare(&Report{}); len(list) != 0 {
		t.Errorf("compared with nothing: %v", list)
	}
	again.Traffic[0].Phases[0].Length = 3
	if list := r.Compare(again); len(list) != 0 {
		t.Errorf("phases of unequal length were compared: %v", list)
	}
	short := &Series{ends: []time.Duration{2500 * time.Millisecond, 8 * time.Second}, second: make([]Cell, 9), phases: make([]Cell, 2)}
	for i, want := range []int{2, 5} {
		if got := len(short.within(i)); got != want {
			t.Errorf("phase %d has %d whole seconds, want %d", i, got, want)
		}
	}
	if good, _, _ := short.spreads(1); good != (Spread{}) {
		t.Errorf("five seconds have a spread: %v", good)
	}
}
