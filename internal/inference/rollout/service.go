package rollout

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Service begins and ends what divides the requests of aliases, each by commands
// to one aggregate after the other.
type Service struct {
	// Unlogged says that there is no prediction log: no release may then wait for what
	// only a log knows.
	Unlogged bool
	// Evaluations are begun for releases that wait for one; nil for none.
	Evaluations Evaluations
	// Keeper keeps versions while something begins to name them; nil keeps none.
	Keeper Keeper
	// Graphs are checked before an alias they use leads elsewhere; nil for none.
	Graphs Graphs

	bus     *cqrs.Bus
	catalog Catalog
}

// NewService returns the service of a bus that Register has been called for.
func NewService(b *cqrs.Bus, catalog Catalog) *Service { return &Service{bus: b, catalog: catalog} }

// Keeper keeps versions of a model from being deleted or archived until what names them is
// committed.
type Keeper interface {
	// Keep returns the context in which to name the versions, and a function that ends the
	// keeping. It fails with fault.Unprocessable where a version is gone.
	Keep(ctx context.Context, model string, versions ...int64) (context.Context, func(), error)
}

// Graphs are models that are made of what aliases lead to.
type Graphs interface {
	// Fits fails with fault.Conflict where an alias of a model must not lead to a version,
	// because a graph that uses the alias could not be served then.
	Fits(ctx context.Context, model, alias string, version int64) error
}

// fits fails where graphs that use an alias could not work with a version.
func (s *Service) fits(ctx context.Context, model, alias string, version int64) error {
	if s.Graphs == nil {
		return nil
	}
	return s.Graphs.Fits(ctx, model, alias, version)
}

// DecideAlias approves or rejects what is proposed for an alias, see the command.
func (s *Service) DecideAlias(ctx context.Context, c DecideAlias) (*LoadedAlias, error) {
	a, err := cqrs.Ask(asSystemFor(ctx), s.bus, FindAlias{Model: c.Model, Alias: c.Alias}) // the permission to approve does not include reading
	if err != nil {
		return nil, err
	}
	p := a.State.Proposed
	if !c.Approve || p == nil || p.Remove {
		return cqrs.Send(ctx, s.bus, c)
	}
	if err := s.fits(ctx, c.Model, c.Alias, p.Version); err != nil {
		return nil, err
	}
	after, err := cqrs.Send(ctx, s.bus, c)
	return after, s.lookAfter(ctx, c.Model, c.Alias, p.Version, after, err)
}

// naming calls f, which names versions of a model, while these are kept.
func (s *Service) naming(ctx context.Context, model string, versions []int64, f func(context.Context) error) error {
	if s.Keeper == nil {
		return f(ctx)
	}
	ctx, end, err := s.Keeper.Keep(ctx, model, versions...)
	if err != nil {
		return err
	}
	defer end()
	return f(ctx)
}

// SetAlias points an alias to a version, which is kept meanwhile, see the command.
func (s *Service) SetAlias(ctx context.Context, c SetAlias) (a *LoadedAlias, err error) {
	artifact, found := s.catalog.Find(c.Model, c.Version)
	if found != nil {
		return cqrs.Send(ctx, s.bus, c) // which says what is wrong with it
	}
	err = s.naming(ctx, c.Model, []int64{artifact.Version}, func(ctx context.Context) error {
		if err := s.fits(ctx, c.Model, c.Alias, artifact.Version); err != nil {
			return err
		}
		a, err = cqrs.Send(ctx, s.bus, c)
		return s.lookAfter(ctx, c.Model, c.Alias, artifact.Version, a, err)
	})
	return a, err
}

// StartExperiment is what somebody wants to find out.
type StartExperiment struct {
	Model, Alias string
	Arms         []WeightedArm
	Unit         []experiment.Key // empty for the header Experiment-Unit
	Rules        []experiment.Rule
	Shadow       *WeightlessArm // nil for none
	Bandit       *Bandit        // nil keeps the weights
}

// StartExperiment divides an alias's requests. Done again with the same id it returns
// what was begun.
func (s *Service) StartExperiment(ctx context.Context, id ExperimentID, c StartExperiment) (*LoadedExperiment, error) {
	if len(c.Unit) == 0 {
		c.Unit = standardUnit
	}
	if c.Bandit != nil && c.Bandit.Label != "" && s.Unlogged {
		return nil, fault.New(fault.Unprocessable, "to allocate by labels needs the prediction log, and this server keeps none: set record.url").WithCode("experiment_allocation")
	}
	started, err := design(s.catalog, id, c)
	if err != nil {
		return nil, err
	}
	started.Tenant = tenantOf(ctx)
	alias, err := cqrs.Ask(ctx, s.bus, FindAlias{Model: c.Model, Alias: c.Alias})
	if err != nil {
		return nil, err
	}
	var named []int64
	for _, arm := range started.Arms {
		named = append(named, arm.Version)
	}
	if started.Shadow != nil {
		named = append(named, started.Shadow.Version)
	}
	err = s.naming(ctx, c.Model, named, func(ctx context.Context) error {
		return s.holding(ctx, alias, string(id), nil, func() error {
			_, err := cqrs.Send(ctx, s.bus, beginExperiment{id: id, started: *started})
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return cqrs.Ask(ctx, s.bus, FindExperiment{ID: id})
}

// standardUnit is where the unit of a request is found, unless an experiment says otherwise.
var standardUnit = []experiment.Key{{From: experiment.Header, Name: experiment.HeaderUnit}}

// holding takes the hold of an alias and then begins the holder. The hold is given back
// where the holder could not be begun, and left to the driver where that is not known.
func (s *Service) holding(ctx context.Context, alias *LoadedAlias, id string, next *Pointing, begin func() error) error {
	_, err := cqrs.Send(ctx, s.bus, holdAlias{model: alias.State.Model, alias: alias.State.Name, holder: id, next: next, version: alias.Root.Version})
	if errors.Is(err, repo.ErrProcessed) {
		err = s.held(ctx, alias, id)
	}
	if err != nil {
		return err
	}
	err = begin()
	switch {
	case err == nil || errors.Is(err, repo.ErrProcessed):
		return nil
	case errors.Is(err, repo.ErrOutcomeUnknown):
		return err // it may be there, and then it has to hold the alias
	}
	if _, freed := cqrs.Send(context.WithoutCancel(ctx), s.bus, freeAlias{model: alias.State.Model, alias: alias.State.Name, holder: id}); freed != nil {
		return err // the driver frees it
	}
	return err
}

// held fails where the hold that an earlier attempt took has ended.
func (s *Service) held(ctx context.Context, alias *LoadedAlias, id string) error {
	now, err := cqrs.Ask(ctx, s.bus, FindAlias{Model: alias.State.Model, Alias: alias.State.Name})
	if err != nil || now.State.Holder == id || s.begun(ctx, id) {
		return err
	}
	return fault.New(fault.Conflict, "an earlier attempt of this request came to nothing, and its hold of the alias has ended: send it again with another Idempotency-Key").WithCode("hold_ended")
}

// begun reports whether a holder exists, even if it is over by now: an attempt that is
// repeated returns it.
func (s *Service) begun(ctx context.Context, id string) bool {
	var err error
	if isExperiment(id) {
		_, err = cqrs.Ask(ctx, s.bus, FindExperiment{ID: ExperimentID(id)})
	} else {
		_, err = cqrs.Ask(ctx, s.bus, FindRelease{ID: release.ID(id)})
	}
	return err == nil
}

// StopExperiment stops an experiment and frees its alias.
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
	Replay       *StartReplay // before the steps; nil for none
}

// StartRelease begins to walk a candidate to an alias. Done again with the same id it
// returns what was begun.
func (s *Service) StartRelease(ctx context.Context, id release.ID, c StartRelease) (*LoadedRelease, error) {
	alias, err := cqrs.Ask(ctx, s.bus, FindAlias{Model: c.Model, Alias: c.Alias})
	if err != nil {
		return nil, err
	}
	champion, candidate, err := s.contenders(ctx, alias, &c)
	if err != nil {
		return nil, err
	}
	if c.Replay != nil {
		step, err := s.replay(ctx, id, &c)
		if err != nil {
			return nil, err
		}
		c.Steps = append([]release.Step{step}, c.Steps...)
	}
	plan := release.Plan{Model: c.Model, Alias: c.Alias, Champion: champion.Digest, Candidate: candidate.Digest, Protected: alias.State.Protected, Steps: c.Steps}
	if err := s.complete(ctx, &plan); err != nil {
		return nil, err
	}
	next := &Pointing{candidate.Version, candidate.Digest, alias.State.Protected}
	err = s.naming(ctx, c.Model, []int64{candidate.Version}, func(ctx context.Context) error {
		begin := func() error {
			_, err := cqrs.Send(ctx, s.bus, beginRelease{id: id, plan: plan})
			return err
		}
		return s.holding(ctx, alias, string(id), next, func() error {
			if c.Replay == nil {
				return begin()
			}
			return s.evaluate(ctx, id, &c, strconv.FormatInt(champion.Version, 10), begin)
		})
	})
	if err == nil {
		err = s.lookBehindRelease(ctx, id, c.Model, c.Alias, candidate.Version)
	}
	if err != nil {
		return nil, err
	}
	return cqrs.Ask(ctx, s.bus, FindRelease{ID: id})
}

// contenders returns the champion and the candidate of a release, which must be able to
// stand in for each other.
func (s *Service) contenders(ctx context.Context, alias *LoadedAlias, c *StartRelease) (champion, candidate Artifact, err error) {
	if champion, err = find(s.catalog, c.Model, alias.State.Version); err != nil {
		return champion, candidate, err
	}
	if candidate, err = s.catalog.Find(c.Model, c.Candidate); err != nil {
		return champion, candidate, missing(c.Model, c.Candidate, err)
	}
	if err := alike(c.Model, champion, candidate); err != nil {
		return champion, candidate, err
	}
	if err := s.fits(ctx, c.Model, c.Alias, candidate.Version); err != nil {
		return champion, candidate, err
	}
	if slices.ContainsFunc(c.Steps, func(s release.Step) bool { return s.Shadow }) {
		err = shadeable(c.Model, candidate)
	}
	return champion, candidate, err
}

// complete notes in a plan who begins the release, and says why it cannot be begun.
func (s *Service) complete(ctx context.Context, p *release.Plan) error {
	by := askerOf(ctx)
	p.Requester, p.Tenant = by.person, tenantOf(ctx)
	if by.nobody && (p.Protected || slices.ContainsFunc(p.Steps, func(s release.Step) bool { return s.Approval })) {
		return errNobody
	}
	if s.Unlogged && slices.ContainsFunc(p.Steps, func(s release.Step) bool { return logged(s.Policy) }) {
		return fault.New(fault.Unprocessable, "the guardrails 'quality' and 'drift' need the prediction log, and this server keeps none: set record.url").WithCode("release_needs_log")
	}
	return p.Validate()
}
