package recordhttp

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
)

// Ranges returns the ranges, bounds included, that an experiment or release declares for the
// scores of a label: a score may lie in any of them. None means that nothing is declared.
type Ranges func(ctx context.Context, experiment, label string) ([][2]float64, error)

// fitting checks the labels of one request against the ranges of their experiments, so that
// the client learns of scores that would not count. It reads each experiment's once.
type fitting struct {
	ranges Ranges // nil for none
	known  map[[2]string][][2]float64
	failed error // why ranges could not be read
}

// ask sets the label's Fits. The error that it returns a pointer to is set once the store
// has called Fits and the label does not fit.
func (f *fitting) ask(ctx context.Context, l *record.Label) *error {
	why := new(error)
	if f.ranges == nil || l.Score == nil {
		return why
	}
	score, name := *l.Score, l.Name
	l.Fits = func(experiment string) bool {
		all, err := f.of(ctx, experiment, name)
		if err != nil {
			f.failed = err
			return false
		}
		if len(all) == 0 || slices.ContainsFunc(all, func(r [2]float64) bool { return r[0] <= score && score <= r[1] }) {
			return true
		}
		*why = fault.New(fault.Unprocessable, "the score is %g, and %s, which the prediction is of, takes scores of %q %s: send one of these, or give the label another name",
			score, experiment, name, listed(all)).WithCode("score_out_of_range")
		return false
	}
	return why
}

// listed names ranges, each once: steps of a release often declare the same.
func listed(all [][2]float64) string {
	var each []string
	for _, r := range all {
		if one := fmt.Sprintf("from %g to %g", r[0], r[1]); !slices.Contains(each, one) {
			each = append(each, one)
		}
	}
	return strings.Join(each, " or ")
}

// of returns what an experiment has declared.
func (f *fitting) of(ctx context.Context, experiment, name string) ([][2]float64, error) {
	if experiment == "" {
		return nil, nil
	}
	key := [2]string{experiment, name}
	if all, known := f.known[key]; known {
		return all, nil
	}
	all, err := f.ranges(ctx, experiment, name)
	if err == nil {
		f.known[key] = all
	}
	return all, err
}
