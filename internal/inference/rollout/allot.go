package rollout

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"sluice/internal/inference/experiment/bandit"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Bandit says that an experiment gives its units to the arms that seem best, and by
// what; see package bandit.
type Bandit struct {
	Label string `json:"label,omitempty"` // whose scores are the reward; empty rewards requests that did not fail
	// Range is what scores lie within, bounds included. Others do not count: one wrong label
	// must not move units. Nil counts all, as in experiments begun before there were ranges.
	Range *[2]float64   `json:"range,omitempty"`
	Every time.Duration `json:"every_ns"`
}

// Bounds of the time between two allocations. Each costs an event and a tally of every
// node, and moves units to other arms.
const (
	MinEvery = 10 * time.Minute
	MaxEvery = 30 * 24 * time.Hour
)

func (b *Bandit) validate(arms int) error {
	if b.Every < MinEvery || b.Every > MaxEvery || arms < 2 || len(b.Label) > 64 {
		return fault.New(fault.Unprocessable, "the arms are allocated every %s by the label %q among %d, expected a time from %s to %s, at most 64 bytes and at least 2 arms",
			b.Every, fault.Clip(b.Label, 64), arms, MinEvery, MaxEvery).WithCode("experiment_allocation")
	}
	if r := b.Range; r != nil && (b.Label == "" || !(r[0] < r[1]) || math.Abs(r[0]) > maxReward || math.Abs(r[1]) > maxReward) {
		return fault.New(fault.Unprocessable, "the range of the reward is %v, expected two numbers of at most %g, the lesser first, and a label that it is of", *r, maxReward).WithCode("experiment_allocation").
			WithDetails(fault.Detail{Pointer: "/allocation/range", Code: "experiment_allocation", Message: "expected the least and the greatest score of the label"})
	}
	return nil
}

// maxReward bounds what scores can be.
const maxReward = 1e12

// rewards returns what an experiment is allocated by.
func (c Counted) rewards(ctx context.Context, x *LoadedExperiment) (bandit.Inputs, error) {
	in := bandit.Inputs{Reward: bandit.Rate, Seed: seed(x)}
	for _, a := range x.State.Config.Allocation.Arms() {
		in.Arms = append(in.Arms, bandit.Arm{Name: a.Name})
	}
	if x.State.Bandit.Label == "" {
		counts, err := c.successes(ctx, x)
		for i, n := range counts {
			in.Arms[i].Count = n
		}
		return in, err
	}
	in.Reward = bandit.Mean
	scores, err := c.scores(ctx, x)
	if err != nil {
		return in, err
	}
	for i, a := range scores.Arms[:len(in.Arms)] {
		in.Arms[i].Moments = a.Numbers.Quality
	}
	return in, nil
}

// allocate gives the arms of an experiment the shares that a bandit has decided on.
type allocate struct {
	cqrs.Returns[*LoadedExperiment]
	id       ExperimentID
	version  int64 // of the experiment when that was decided
	decision bandit.Decision
}

// CommandName implements cqrs.Command.
func (allocate) CommandName() string { return "experiments.allocate" }

// Target implements cqrs.Targeted.
func (c allocate) Target() (kind, id string) { return Experiments.Name, string(c.id) }

func registerAllocations(b *cqrs.Bus) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c allocate) (*LoadedExperiment, error) {
		x, err := Experiments.Append(ctx, tx, c.id, func(l LoadedExperiment) ([]aggregate.Event, error) {
			if l.State.Stopped || l.Version != c.version {
				return nil, nil // somebody was faster
			}
			if err := open(ctx, tx, &l.State); err != nil {
				return nil, err
			}
			next, err := l.State.Config.Allocation.Reweight(c.decision.Weights...)
			return []aggregate.Event{ExperimentReweighted{next, &c.decision}}, err
		})
		return &x, err
	}, cqrs.Platform())
}

// Allocator gives the units of experiments to the arms that seem best, where that is
// asked for. One process at a time uses it: the one that drives releases.
type Allocator struct {
	bus     *cqrs.Bus
	counted Counted
}

// NewAllocator returns an allocator whose changes are commands, and so audited.
func NewAllocator(b *cqrs.Bus, c Counted) *Allocator { return &Allocator{b, c} }

// Allot allocates again, if that is due and something was observed since the last time.
func (a *Allocator) Allot(ctx context.Context, x *LoadedExperiment) error {
	s := &x.State
	if s.Bandit == nil || s.Stopped || a.counted.Store.Now().Sub(s.AllocatedAt) < s.Bandit.Every {
		return nil
	}
	in, err := a.counted.rewards(ctx, x)
	if err != nil || s.unobserved(in) {
		return err
	}
	d, err := bandit.Decide(in)
	if err != nil {
		return err
	}
	_, err = cqrs.Send(asSystem(ctx, s.Tenant), a.bus, allocate{id: x.Root.ID, version: x.Root.Version, decision: d})
	return err
}

// seed is the seed of the experiment's next allocation: every process draws the same.
func seed(x *LoadedExperiment) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", x.Root.ID, x.Root.Version)
	return h.Sum64()
}

// unobserved reports whether nothing was observed since the last allocation.
func (x *Experiment) unobserved(in bandit.Inputs) bool {
	var before bandit.Inputs
	if x.Decision != nil {
		before = x.Decision.Inputs
	}
	n := func(in bandit.Inputs) (sum int64) {
		for _, a := range in.Arms {
			sum += a.Count.N + a.Moments.N
		}
		return sum
	}
	return n(in) == n(before)
}
