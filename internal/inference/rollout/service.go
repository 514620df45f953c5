package rollout

import (
	"context"
	"errors"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Service begins and ends what divides the requests of aliases, each by commands
// to one aggregate after the other.
type Service struct {
	bus     *cqrs.Bus
	catalog Catalog
}

// NewService returns the service of a bus that Register has been called for.
func NewService(b *cqrs.Bus, catalog Catalog) *Service { return &Service{b, catalog} }

// StartExperiment is what somebody wants to find out.
type StartExperiment struct {
	Model, Alias string
	Arms         []WeightedArm
	Unit         []experiment.Key // the header Experiment-Unit where it is empty
	Rules        []experiment.Rule
}

// StartExperiment divides an alias's requests. Doing so again with the same id
// returns what was begun.
func (s *Service) StartExperiment(ctx context.Context, id ExperimentID, c StartExperiment) (*LoadedExperiment, error) {
	if len(c.Unit) == 0 {
		c.Unit = standardUnit
	}
	started, err := design(s.catalog, id, c)
	if err != nil {
		return nil, err
	}
	alias, err := cqrs.Ask(ctx, s.bus, FindAlias{Model: c.Model, Alias: c.Alias})
	if err != nil {
		return nil, err
	}
	err = s.holding(ctx, alias, string(id), nil, func() error {
		_, err := cqrs.Send(ctx, s.bus, beginExperiment{id: id, started: *started})
		return err
	})
	if err != nil {
		return nil, err
	}
	return cqrs.Ask(ctx, s.bus, FindExperiment{ID: id})
}

// standardUnit is where the unit of a request is found where nobody says.
var standardUnit = []experiment.Key{{From: experiment.Header, Name: experiment.HeaderUnit}}

// holding begins something that holds an alias. Nothing is held by what could not
// be begun.
func (s *Service) holding(ctx context.Context, alias *LoadedAlias, id string, next *Pointing, begin func() error) error {
	_, err := cqrs.Send(ctx, s.bus, holdAlias{model: alias.State.Model, alias: alias.State.Name, holder: id, next: next, version: alias.Root.Version})
	if err != nil && !errors.Is(err, repo.ErrProcessed) {
		return err
	}
	if err = begin(); err == nil || errors.Is(err, repo.ErrProcessed) {
		return nil
	}
	if _, freed := cqrs.Send(context.WithoutCancel(ctx), s.bus, freeAlias{model: alias.State.Model, alias: alias.State.Name, holder: id}); freed != nil && !errors.Is(err, repo.ErrOutcomeUnknown) {
		return err // whoever drives releases frees it
	}
	return err
}

// StopExperiment has an alias's requests divided no more.
func (s *Service) StopExperiment(ctx context.Context, c StopExperiment) (*LoadedExperiment, error) {
	x, err := cqrs.Send(ctx, s.bus, c)
	if err != nil {
		return nil, err
	}
	_, err = cqrs.Send(ctx, s.bus, freeAlias{model: x.State.Model, alias: x.State.Alias, holder: string(c.ID)})
	if errors.Is(err, repo.ErrProcessed) {
		err = nil
	}
	return x, err
}

// StartRelease is what somebody wants to be released.
type StartRelease struct {
	Model, Alias string
	Candidate    string // the number of a version
	Steps        []release.Step
}

// StartRelease begins to walk a candidate to an alias. Doing so again with the same
// id returns what was begun.
func (s *Service) StartRelease(ctx context.Context, id release.ID, c StartRelease) (*LoadedRelease, error) {
	alias, err := cqrs.Ask(ctx, s.bus, FindAlias{Model: c.Model, Alias: c.Alias})
	if err != nil {
		return nil, err
	}
	champion, err := find(s.catalog, c.Model, alias.State.Version)
	if err != nil {
		return nil, err
	}
	candidate, err := s.catalog.Find(c.Model, c.Candidate)
	if err != nil {
		return nil, missing(c.Model, c.Candidate, err)
	}
	if err := alike(c.Model, champion, candidate); err != nil {
		return nil, err
	}
	plan := release.Plan{Model: c.Model, Alias: c.Alias, Champion: champion.Digest, Candidate: candidate.Digest, Protected: alias.State.Protected, Steps: c.Steps}
	for i, step := range plan.Steps {
		if step.Shadow {
			return nil, fault.New(fault.Unsupported, "step %d is for shadow traffic, which is not made yet: begin with a small weight", i+1).WithCode("shadow_unsupported")
		}
	}
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	next := &Pointing{candidate.Version, candidate.Digest, alias.State.Protected}
	err = s.holding(ctx, alias, string(id), next, func() error {
		_, err := cqrs.Send(ctx, s.bus, beginRelease{id: id, plan: plan})
		return err
	})
	if err != nil {
		return nil, err
	}
	return cqrs.Ask(ctx, s.bus, FindRelease{ID: id})
}
