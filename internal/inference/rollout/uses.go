package rollout

import (
	"context"
	"errors"
	"fmt"

	"sluice/internal/platform/repo"
)

// Uses says why a version of a model must stay: an alias names it, is proposed to,
// or will once the release that holds it has promoted; or an experiment divides an
// alias's requests to it. Empty is no reason.
func Uses(ctx context.Context, from repo.Reading, model string, number int64) (why string, err error) {
	for a, err := range all(ctx, from, Aliases, ofModel.Eq(model)) {
		if err != nil {
			return "", err
		}
		if why, err = a.State.uses(ctx, from, number); err != nil || why != "" {
			return why, err
		}
	}
	return "", nil
}

// uses says why the alias needs a version to stay.
func (a *Alias) uses(ctx context.Context, from repo.Reading, number int64) (why string, err error) {
	switch p := a.Proposed; {
	case !a.Exists:
		return "", nil
	case a.Version == number:
		return fmt.Sprintf("the alias %s names it", a.Name), nil
	case p != nil && !p.Remove && p.Version == number:
		return fmt.Sprintf("it is proposed for the alias %s: reject that first", a.Name), nil
	case a.Next != nil && a.Next.Version == number:
		return fmt.Sprintf("the release %s walks it to the alias %s: roll that back first", a.Holder, a.Name), nil
	case !isExperiment(a.Holder):
		return "", nil
	}
	x, err := Experiments.Get(ctx, from, ExperimentID(a.Holder))
	if errors.Is(err, repo.ErrNotFound) { // whoever took the hold is about to begin it
		return fmt.Sprintf("the experiment %s of the alias %s is being begun, and may name it", a.Holder, a.Name), nil
	}
	if err != nil || x.State.Stopped {
		return "", err
	}
	for _, arm := range x.State.Arms {
		if arm.Version == number {
			return fmt.Sprintf("the experiment %s of the alias %s has it as its arm %s: stop that first", a.Holder, a.Name, arm.Name), nil
		}
	}
	if s := x.State.Shadow; s != nil && s.Version == number {
		return fmt.Sprintf("the experiment %s of the alias %s has it as its shadow: stop that first", a.Holder, a.Name), nil
	}
	return "", nil
}
