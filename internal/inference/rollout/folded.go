package rollout

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/platform/repo"
)

// standard sums up success rates over the weightings of an experiment as if all arms had
// had equal shares at all times (direct standardization): rates are compared within each
// weighting, which counts for as much as its smallest arm. Weightings add up, so past ones
// need not be kept one by one.
type standard struct {
	All     float64   `json:"all"`     // sum of the weights
	Rates   []float64 `json:"rates"`   // by arm: sum of rate times weight
	Squares []float64 `json:"squares"` // by arm: sum of weight squared over requests
}

// add counts a weighting in which every arm had requests; others compare nothing.
func (s *standard) add(arms []Measure) {
	least := arms[0].Numbers.Requests.N
	for _, a := range arms {
		least = min(least, a.Numbers.Requests.N)
	}
	if least == 0 {
		return
	}
	if s.Rates == nil {
		s.Rates, s.Squares = make([]float64, len(arms)), make([]float64, len(arms))
	}
	weight := float64(least)
	s.All += weight
	for i, a := range arms {
		n := a.Numbers.Requests
		s.Rates[i] += weight * float64(n.N-n.Hits) / float64(n.N)
		s.Squares[i] += weight * weight / float64(n.N)
	}
}

// counts returns for each arm how many requests would say as much under one weighting, and
// how many of these did not fail; nil where nothing was compared.
func (s *standard) counts() (out []sequential.Count) {
	for i := range s.Rates {
		n := s.All * s.All / s.Squares[i]
		out = append(out, sequential.Count{N: int64(math.Round(n)), Hits: int64(math.Round(n * s.Rates[i] / s.All))})
	}
	return out
}

// clone returns a copy that can be added to.
func (s *standard) clone() standard {
	return standard{s.All, slices.Clone(s.Rates), slices.Clone(s.Squares)}
}

// Folded sums up what all nodes have counted of an experiment under its past weights, so that
// an allocation reads no more after a year than at first.
type Folded struct {
	Through  int64    `json:"through"` // the last version of the experiment that is included
	Standard standard `json:"standard"`
}

// foldedPart names where it is kept: not among the experiment's tallies, which would count
// it twice.
func foldedPart(x *LoadedExperiment) part { return part{string(x.Root.ID) + "/folded", 0} }

// successes returns what an experiment is allocated by whose reward is requests that did not
// fail. It reads what nodes have counted since the last fold, and folds all but the current
// weights: an allocation comes minutes after the one before (MinEvery), when no node counts
// by older weights any more.
func (c Counted) successes(ctx context.Context, x *LoadedExperiment) ([]sequential.Count, error) {
	before, until, err := c.folded(ctx, x)
	if err != nil {
		return nil, err
	}
	over := Folded{before.Through, before.Standard.clone()}
	arms, now := x.State.Config.Allocation.Arms(), x.Root.Version
	for version := before.Through + 1; version < now; version++ {
		if err := c.addPart(ctx, part{string(x.Root.ID), version}, &over.Standard, arms); err != nil {
			return nil, err
		}
		over.Through = version
	}
	all := over.Standard.clone()
	if err := c.addPart(ctx, part{string(x.Root.ID), now}, &all, arms); err != nil {
		return nil, err
	}
	if over.Through > before.Through || before.Through > 0 && until.Sub(c.Store.Now()) < keepTally { // what is still read must not expire
		err = c.fold(ctx, x, before.Through, over)
	}
	return all.counts(), err
}

// addPart counts what nodes have counted while an experiment had the same weights.
func (c Counted) addPart(ctx context.Context, p part, to *standard, arms []experiment.Arm) error {
	sums, err := c.sum(ctx, ofPart.Eq(p.String()), arms)
	for _, w := range sums.Weightings {
		to.add(w)
	}
	return err
}

// folded returns what is folded so far, and until when that is kept.
func (c Counted) folded(ctx context.Context, x *LoadedExperiment) (Folded, time.Time, error) {
	t, err := TallyKind.Get(ctx, c.Store.Read(repo.Scope{}), foldedID(x))
	if errors.Is(err, repo.ErrNotFound) || err == nil && t.Folded == nil {
		return Folded{}, time.Time{}, nil
	}
	if err != nil {
		return Folded{}, time.Time{}, err
	}
	return *t.Folded, t.Until, nil
}

func foldedID(x *LoadedExperiment) TallyID { return TallyID(foldedPart(x).String()) }

// fold keeps what is folded, unless another process has done so meanwhile.
func (c Counted) fold(ctx context.Context, x *LoadedExperiment, from int64, over Folded) error {
	p, until := foldedPart(x), c.Store.Now().Add(keepTally+MaxEvery)
	return c.Store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		there, err := TallyKind.Exists(ctx, tx, foldedID(x))
		if err != nil {
			return err
		}
		if !there {
			t := Tally{Holder: p.holder, Part: p.String(), Folded: &over, Until: until}
			t.ID = foldedID(x)
			return TallyKind.Add(ctx, tx, &t)
		}
		_, err = TallyKind.Update(ctx, tx, foldedID(x), func(t *Tally) error {
			if t.Folded == nil || t.Folded.Through == from {
				t.Folded, t.Until = &over, until
			}
			return nil
		})
		return err
	})
}
