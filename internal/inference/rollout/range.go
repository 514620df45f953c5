package rollout

import (
	"context"
	"errors"

	"sluice/internal/inference/release"
	"sluice/internal/platform/repo"
)

// Ranges returns the ranges, bounds included, within which scores of a label count for an
// experiment or release under way; of a release each step may declare its own. A score in
// none of them counts for nothing there. Without any range all scores count.
func Ranges(ctx context.Context, from repo.Reading, id, label string) ([][2]float64, error) {
	if isExperiment(id) {
		x, err := Experiments.Get(ctx, from, ExperimentID(id))
		if b := x.State.Bandit; err == nil && !x.State.Stopped && b != nil && b.Label == label && b.Range != nil {
			return [][2]float64{*b.Range}, nil
		}
		return nil, unlessMissing(err)
	}
	r, err := release.Releases.Get(ctx, from, release.ID(id))
	if err != nil || r.State.Status.Final() {
		return nil, unlessMissing(err)
	}
	var all [][2]float64
	for i := range r.State.Plan.Steps {
		if q := r.State.Plan.Steps[i].Policy.Quality; q != nil && q.Counts() == label {
			all = append(all, q.Within())
		}
	}
	return all, nil
}

// unlessMissing returns the error, unless it says that something does not exist.
func unlessMissing(err error) error {
	if errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	return err
}
