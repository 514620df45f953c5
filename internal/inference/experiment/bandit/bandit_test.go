package bandit

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/platform/fault"
)

func rate(name string, n, hits int64) Arm {
	return Arm{Name: name, Count: sequential.Count{N: n, Hits: hits}}
}

func mean(name string, n int64, mean, sd float64) Arm {
	return Arm{Name: name, Moments: sequential.Moments{N: n, Mean: mean, M2: sd * sd * float64(max(n-1, 0))}}
}

func decide(t testing.TB, in Inputs) Decision {
	t.Helper()
	d, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Weights are valid, no arm is below the floor, better chances never get less,
// and the decision survives the log.
func TestDecisions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Inputs{Reward: rapid.SampledFrom([]Reward{Rate, Mean}).Draw(t, "reward"), Seed: rapid.Uint64().Draw(t, "seed")}
		for i := range rapid.IntRange(2, 3).Draw(t, "arms") {
			n := rapid.Int64Range(0, 1000).Draw(t, "n")
			a := mean(fmt.Sprint(i), n, rapid.Float64Range(-10, 10).Draw(t, "mean"), rapid.Float64Range(0, 10).Draw(t, "sd"))
			a.Count = sequential.Count{N: n, Hits: rapid.Int64Range(0, n).Draw(t, "hits")}
			in.Arms = append(in.Arms, a)
		}
		d, err := Decide(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := experiment.Allocate(d.Weights...); err != nil {
			t.Fatal(err)
		}
		for i, a := range d.Weights {
			if a.Weight < Floor {
				t.Fatalf("%+v is below the floor", a)
			}
			for j, b := range d.Weights {
				if d.Chances[i] > d.Chances[j] && a.Weight < b.Weight {
					t.Fatalf("chances %v got the weights %v", d.Chances, d.Weights)
				}
			}
		}
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var logged Decision
		if err := json.Unmarshal(data, &logged); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(logged.Arms, d.Arms) || logged.Seed != d.Seed || !slices.Equal(logged.Weights, d.Weights) || !slices.Equal(logged.Chances, d.Chances) {
			t.Fatalf("%+v became %s", d, data)
		}
	})
}

// A decision replays, and one that somebody has changed does not.
func TestReplay(t *testing.T) {
	for _, in := range []Inputs{
		{Reward: Rate, Seed: 1<<64 - 1, Arms: []Arm{rate("a", 100, 10), rate("b", 0, 0)}},
		{Reward: Mean, Seed: 7, Arms: []Arm{mean("a", 10, 1, 1), mean("b", 3, 2, 1), mean("c", 50, 1.5, 2)}},
	} {
		if err := decide(t, in).Replay(); err != nil {
			t.Errorf("%+v: %v", in, err)
		}
	}
	for name, change := range map[string]func(d *Decision){
		"weight": func(d *Decision) { d.Weights[0].Weight++ },
		"chance": func(d *Decision) { d.Chances[1] /= 2 },
		"seed":   func(d *Decision) { d.Seed++ },
		"hits":   func(d *Decision) { d.Arms[1].Count.Hits-- },
	} {
		d := decide(t, Inputs{Reward: Rate, Seed: 5, Arms: []Arm{rate("a", 100, 10), rate("b", 100, 15)}})
		change(&d)
		if err := d.Replay(); fault.CodeOf(err) != "decision_differs" {
			t.Errorf("another %s was not noticed: %v", name, err)
		}
	}
}

// Chances are what numerical integration says, to what the draws can tell.
func TestChances(t *testing.T) {
	for name, c := range map[string]struct {
		in   Inputs
		want float64 // of the second arm
	}{
		"rates":         {Inputs{Reward: Rate, Arms: []Arm{rate("a", 100, 10), rate("b", 100, 15)}}, 0.853284},
		"few rates":     {Inputs{Reward: Rate, Arms: []Arm{rate("a", 0, 0), rate("b", 3, 2)}}, 0.6},
		"means":         {Inputs{Reward: Mean, Arms: []Arm{mean("a", 30, 10, 2), mean("b", 20, 11, 3)}}, 0.896364},
		"nothing known": {Inputs{Reward: Mean, Arms: []Arm{mean("a", 0, 0, 0), mean("b", 4, 9, 1)}}, 0.5},
	} {
		if got := decide(t, c.in).Chances[1]; math.Abs(got-c.want) > 4*math.Sqrt(c.want*(1-c.want)/draws) {
			t.Errorf("%s: the second arm is best with %.4f, want %.4f", name, got, c.want)
		}
	}
}

// The bandit finds the best arm, and earns more than equal weights would.
func TestBanditEarns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	truth := []float64{0.05, 0.07, 0.10}
	arms := []Arm{rate("a", 0, 0), rate("b", 0, 0), rate("c", 0, 0)}
	weights := []int{3334, 3333, 3333}
	earned, last := int64(0), 0
	const rounds, units = 40, 1000
	for round := range rounds {
		for i := range arms {
			for range units * weights[i] / experiment.Total {
				arms[i].Count.N++
				if r.Float64() < truth[i] {
					arms[i].Count.Hits++
					earned++
				}
			}
		}
		for i, w := range decide(t, Inputs{Reward: Rate, Seed: uint64(round), Arms: arms}).Weights {
			weights[i] = w.Weight
		}
		last = weights[2]
	}
	if last < 9000 || float64(earned) < 0.09*rounds*units {
		t.Errorf("the best arm has %d basis points, %d hits were earned", last, earned)
	}
	if arms[0].Count.N < Floor*rounds*units/experiment.Total/2 {
		t.Errorf("the worst arm was tried %d times", arms[0].Count.N)
	}
}

// Two like arms are not told apart: over many seeds both are ahead equally often.
func TestLikeArmsShare(t *testing.T) {
	ahead := 0
	for seed := range uint64(60) {
		if decide(t, Inputs{Reward: Mean, Seed: seed, Arms: []Arm{mean("a", 50, 1, 1), mean("b", 50, 1, 1)}}).Weights[0].Weight > experiment.Total/2 {
			ahead++
		}
	}
	if ahead < 15 || ahead > 45 {
		t.Errorf("the first of two like arms is ahead in %d of 60", ahead)
	}
}

func TestBadInputsAreRefused(t *testing.T) {
	good := []Arm{rate("a", 1, 1), rate("b", 1, 0)}
	for name, c := range map[string]struct {
		in   Inputs
		kind fault.Kind
	}{
		"one arm":      {Inputs{Reward: Rate, Arms: good[:1]}, fault.Unprocessable},
		"many arms":    {Inputs{Reward: Rate, Arms: make([]Arm, experiment.MaxArms+1)}, fault.Unprocessable},
		"reward":       {Inputs{Reward: "luck", Arms: good}, fault.Unprocessable},
		"hits":         {Inputs{Reward: Rate, Arms: []Arm{rate("a", 1, 2), good[1]}}, fault.Invalid},
		"not a number": {Inputs{Reward: Mean, Arms: []Arm{mean("a", 10, math.NaN(), 1), good[1]}}, fault.Invalid},
		"infinite":     {Inputs{Reward: Mean, Arms: []Arm{mean("a", 10, 1, math.Inf(1)), good[1]}}, fault.Invalid},
	} {
		if _, err := Decide(c.in); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	in := Inputs{Reward: Rate}
	for i := range 10 {
		in.Arms = append(in.Arms, rate(fmt.Sprint(i), 10_000, 1000+int64(i)))
	}
	for b.Loop() {
		decide(b, in)
	}
}
