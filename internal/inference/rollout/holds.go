package rollout

import (
	"context"
	"errors"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// LoadedExperiment is an experiment with what is known of it as an aggregate.
type LoadedExperiment = eventstore.Loaded[ExperimentID, Experiment]

// LoadedRelease is a release with what is known of it as an aggregate.
type LoadedRelease = eventstore.Loaded[release.ID, release.State]

// holdAlias begins a hold of an alias.
type holdAlias struct {
	cqrs.Returns[*LoadedAlias]
	model, alias, holder string
	next                 *Pointing
	version              int64 // of the alias when it was read
}

// freeAlias ends a hold.
type freeAlias struct {
	cqrs.Returns[*LoadedAlias]
	model, alias, holder string
}

// beginExperiment begins an experiment whose alias is held.
type beginExperiment struct {
	cqrs.Returns[*LoadedExperiment]
	id      ExperimentID
	started ExperimentStarted
}

// Reweigh gives the arms of an experiment other shares.
type Reweigh struct {
	cqrs.Returns[*LoadedExperiment]
	ID     ExperimentID
	Arms   []experiment.Arm // all of them, by name
	Expect Expectation
}

// StopExperiment stops an experiment; use Service.StopExperiment.
type StopExperiment struct {
	cqrs.Returns[*LoadedExperiment]
	ID     ExperimentID
	Reason string
	Expect *Expectation // nil for any state: stopping must not wait for another reading
}

// FindExperiment asks for one experiment.
type FindExperiment struct {
	cqrs.Returns[*LoadedExperiment]
	ID ExperimentID
}

// ListExperiments asks for a page of experiments, of one model or all.
type ListExperiments struct {
	cqrs.Returns[spec.Page[LoadedExperiment]]
	Model, After string
	Limit        int
}

// CommandName implements cqrs.Command.
func (holdAlias) CommandName() string { return "aliases.hold" }

// CommandName implements cqrs.Command.
func (freeAlias) CommandName() string { return "aliases.free" }

// CommandName implements cqrs.Command.
func (c beginExperiment) CommandName() string {
	if c.started.Shadow != nil {
		return "experiments.start_shadow"
	}
	return "experiments.start"
}

// CommandName implements cqrs.Command.
func (Reweigh) CommandName() string { return "experiments.reweigh" }

// CommandName implements cqrs.Command.
func (StopExperiment) CommandName() string { return "experiments.stop" }

// QueryName implements cqrs.Query.
func (FindExperiment) QueryName() string { return "experiments.read" }

// QueryName implements cqrs.Query.
func (ListExperiments) QueryName() string { return "experiments.list" }

// Target implements cqrs.Targeted.
func (c holdAlias) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.model, c.alias))
}

// Target implements cqrs.Targeted.
func (c freeAlias) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.model, c.alias))
}

// Target implements cqrs.Targeted.
func (c beginExperiment) Target() (kind, id string) { return Experiments.Name, string(c.id) }

// Target implements cqrs.Targeted.
func (c Reweigh) Target() (kind, id string) { return Experiments.Name, string(c.ID) }

// Target implements cqrs.Targeted.
func (c StopExperiment) Target() (kind, id string) { return Experiments.Name, string(c.ID) }

// registerExperiments adds the commands and queries of experiments to the bus.
func registerExperiments(b *cqrs.Bus) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c holdAlias) (*LoadedAlias, error) {
		return change(ctx, tx, c.model, c.alias, Expectation{Version: c.version}, func(a *Alias) ([]aggregate.Event, error) { return a.hold(c.holder, c.next) })
	}, cqrs.Platform())
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c freeAlias) (*LoadedAlias, error) {
		return change(ctx, tx, c.model, c.alias, Expectation{Any: true}, func(a *Alias) ([]aggregate.Event, error) { return a.settle(c.holder, false) })
	}, cqrs.Platform())
	begin := func(ctx context.Context, tx *repo.Tx, c beginExperiment) (*LoadedExperiment, error) {
		x, err := Experiments.Begin(ctx, tx, c.id, c.started)
		return &x, err
	}
	for _, s := range []*ShadowArm{nil, {}} { // the audit log tells them apart
		cqrs.HandleAs(b, beginExperiment{started: ExperimentStarted{Shadow: s}}.CommandName(), Write, begin, cqrs.Platform())
	}
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c Reweigh) (*LoadedExperiment, error) {
		x, err := Experiments.Append(ctx, tx, c.ID, func(l LoadedExperiment) ([]aggregate.Event, error) {
			if err := c.Expect.check(true, l.Version); err != nil {
				return nil, err
			}
			if err := open(ctx, tx, &l.State); err != nil {
				return nil, err
			}
			return l.State.reweigh(c.Arms)
		})
		return &x, named(err, "experiment", string(c.ID))
	}, cqrs.Platform())
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c StopExperiment) (*LoadedExperiment, error) {
		x, err := Experiments.Append(ctx, tx, c.ID, func(l LoadedExperiment) ([]aggregate.Event, error) {
			if c.Expect != nil {
				if err := c.Expect.check(true, l.Version); err != nil {
					return nil, err
				}
			}
			return l.State.stop(c.Reason)
		})
		return &x, named(err, "experiment", string(c.ID))
	}, cqrs.Platform())
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q FindExperiment) (*LoadedExperiment, error) {
		x, err := Experiments.Get(ctx, from, q.ID)
		return &x, named(err, "experiment", string(q.ID))
	}, cqrs.Platform())
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q ListExperiments) (spec.Page[LoadedExperiment], error) {
		query := spec.Query[Experiment]{Limit: q.Limit, After: q.After}
		if q.Model != "" {
			query.Where = experimentModel.Eq(q.Model)
		}
		return Experiments.Find(ctx, from, query)
	}, cqrs.Platform())
}

// open refuses to change the shares of an experiment whose alias is protected by now.
func open(ctx context.Context, tx *repo.Tx, x *Experiment) error {
	a, err := getAlias(ctx, tx, x.Model, x.Alias)
	if err == nil && a.State.Protected {
		return errProtected
	}
	if fault.CodeOf(err) == "alias_not_found" {
		return nil // the alias was removed: nothing is divided
	}
	return err
}

// named says in repo.ErrNotFound what was not found.
func named(err error, what, id string) error {
	if errors.Is(err, repo.ErrNotFound) {
		return fault.New(fault.NotFound, "there is no %s %q", what, fault.Clip(id, 64)).WithCode(what + "_not_found")
	}
	return err
}
