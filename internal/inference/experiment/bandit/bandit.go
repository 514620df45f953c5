// Package bandit gives the units of an experiment to the arms that seem best,
// and some to all others, by Thompson sampling: each arm gets the share of units
// that its chance of being the best is.
//
// It is for earning while learning, not for shipping: an arm that had bad luck
// early gets few units, so its mean stays too low, and comparisons of such means
// are biased. Whether an arm becomes the champion is package evidence's to say,
// of units that were divided by fixed weights.
//
// An allocation is a pure function of its inputs, the seed among them, so a
// decision that is logged can be replayed.
//
// Known limits: rewards come from one distribution per arm that does not change;
// who expects change hands in the observations of a window. Rewards that come
// late count when they come.
package bandit

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/platform/fault"
)

// Floor is the least share of an arm, in basis points: one percent. Without it
// an arm that once looked bad would never be looked at again.
const Floor = 100

// draws is how often the arms' true means are drawn: a chance is exact to about
// half a percentage point.
const draws = 10_000

// Reward says what an arm's observations are.
type Reward string

// The rewards.
const (
	Rate Reward = "rate" // hits and misses, of which hits are wanted
	Mean Reward = "mean" // numbers, of which greater ones are wanted
)

// Arm is what was observed of an arm: Count for a Rate, Moments for a Mean.
type Arm struct {
	Name    string             `json:"name"`
	Count   sequential.Count   `json:"count,omitzero"`
	Moments sequential.Moments `json:"moments,omitzero"`
}

// Inputs are all that an allocation follows from.
type Inputs struct {
	Reward Reward `json:"reward"`
	Seed   uint64 `json:"seed,string"` // JSON's numbers are not that long
	Arms   []Arm  `json:"arms"`
}

// Decision is an allocation with what it follows from, as it is logged.
type Decision struct {
	Inputs
	// Chances are those of being the best, by arm.
	Chances []float64 `json:"chances"`
	// Weights are what package experiment takes.
	Weights []experiment.Arm `json:"weights"`
}

// Decide allocates the units to the arms.
func Decide(in Inputs) (Decision, error) {
	if err := in.validate(); err != nil {
		return Decision{}, err
	}
	r := rand.New(rand.NewPCG(in.Seed, 0))
	wins := make([]int, len(in.Arms))
	for range draws {
		best, most := 0, math.Inf(-1)
		for i := range in.Arms {
			if x := in.draw(r, &in.Arms[i]); x > most {
				best, most = i, x
			}
		}
		wins[best]++
	}
	out := Decision{Inputs: in}
	for _, n := range wins {
		out.Chances = append(out.Chances, float64(n)/draws)
	}
	for i, weight := range share(out.Chances) {
		out.Weights = append(out.Weights, experiment.Arm{Name: in.Arms[i].Name, Weight: weight})
	}
	return out, nil
}

// Replay allocates again, and fails with the code decision_differs where that
// comes to something else than was decided.
func (d Decision) Replay() error {
	again, err := Decide(d.Inputs)
	if err != nil {
		return err
	}
	if !slices.Equal(again.Weights, d.Weights) || !slices.Equal(again.Chances, d.Chances) {
		return fault.New(fault.Conflict, "the weights were %v, now they are %v: the log or the numbers were changed", d.Weights, again.Weights).WithCode("decision_differs")
	}
	return nil
}

func (in Inputs) validate() error {
	if n := len(in.Arms); n < 2 || n > experiment.MaxArms {
		return fault.New(fault.Unprocessable, "a bandit has 2 to %d arms, this one has %d", experiment.MaxArms, n).WithCode("bandit_arms")
	}
	if in.Reward != Rate && in.Reward != Mean {
		return fault.New(fault.Unprocessable, "%q is no reward: use %s or %s", fault.Clip(string(in.Reward), 32), Rate, Mean).WithCode("bandit_reward")
	}
	for _, a := range in.Arms {
		finite := !math.IsNaN(a.Moments.Mean) && !math.IsInf(a.Moments.Mean, 0) && a.Moments.M2 >= 0 && !math.IsInf(a.Moments.M2, 0)
		if a.Count.Hits < 0 || a.Count.Hits > a.Count.N || a.Moments.N < 0 || !finite {
			return fault.New(fault.Invalid, "the observations of the arm %q cannot be: %+v, %+v", fault.Clip(a.Name, 64), a.Count, a.Moments).WithCode("bandit_observations")
		}
	}
	return nil
}

// share turns chances into weights that add up to experiment.Total, none below
// Floor. What is left above the floors is divided by chance, rounded by largest
// remainders: the first arm wins ties.
func share(chances []float64) []int {
	free := experiment.Total - Floor*len(chances)
	weights := make([]int, len(chances))
	order := make([]int, len(chances))
	rest := make([]float64, len(chances))
	given := 0
	for i, c := range chances {
		exact := c * float64(free)
		weights[i], order[i], rest[i] = int(exact), i, exact-math.Floor(exact)
		given += weights[i]
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for _, i := range order[:free-given] {
		weights[i]++
	}
	for i := range weights {
		weights[i] += Floor
	}
	return weights
}
