package rollout

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// LoadedAlias is an alias with what is known of it as an aggregate.
type LoadedAlias = eventstore.Loaded[AliasID, Alias]

// Expectation is the state that a thing must be in for a change to be made: what If-Match
// and If-None-Match ask for.
type Expectation struct {
	Absent  bool  // there must be none
	Any     bool  // there must be one
	Version int64 // or it must have this version
}

// check fails with fault.PreconditionFailed where the thing is in another state.
func (e Expectation) check(exists bool, version int64) error {
	switch {
	case e.Absent && exists:
		return fault.New(fault.PreconditionFailed, "it is there already, with version %d: send that in If-Match to change it", version).WithCode("version_mismatch")
	case !e.Absent && !exists:
		return fault.New(fault.PreconditionFailed, "it is not there, so it has no version: make it with If-None-Match: *").WithCode("version_mismatch")
	case e.Absent || e.Any:
		return nil
	}
	root := aggregate.Root[AliasID]{Version: version}
	return root.Expect(e.Version)
}

// SetAlias points an alias to a version; nil leaves its protection as it is.
type SetAlias struct {
	cqrs.Returns[*LoadedAlias]
	Model, Alias, Version string
	Protected             *bool
	Expect                Expectation
}

// RemoveAlias removes an alias.
type RemoveAlias struct {
	cqrs.Returns[*LoadedAlias]
	Model, Alias string
	Expect       Expectation
}

// DecideAlias approves what was proposed for a protected alias, or rejects it.
type DecideAlias struct {
	cqrs.Returns[*LoadedAlias]
	Model, Alias string
	Approve      bool
	Expect       Expectation
}

// FindAlias asks for one alias.
type FindAlias struct {
	cqrs.Returns[*LoadedAlias]
	Model, Alias string
}

// ListAliases asks for a page of a model's aliases.
type ListAliases struct {
	cqrs.Returns[spec.Page[LoadedAlias]]
	Model, After string
	Limit        int
}

// AliasHistory asks for what an alias pointed to: at most Limit changes behind the
// sequence After, or only what it pointed to at AsOf.
type AliasHistory struct {
	cqrs.Returns[[]AliasChange]
	Model, Alias string
	After        int64
	Limit        int
	AsOf         time.Time // zero: all
}

// AliasChange is what an alias pointed to from a time on.
type AliasChange struct {
	Sequence int64
	At       time.Time
	By       string // who changed it, or approved that
	Pointing
	Removed    bool
	ProposedBy string // who asked for it, where somebody else approved
	Release    string // that promoted the version
}

// CommandName implements cqrs.Command.
func (SetAlias) CommandName() string { return "aliases.set" }

// CommandName implements cqrs.Command.
func (RemoveAlias) CommandName() string { return "aliases.remove" }

// CommandName implements cqrs.Command. Rejecting is open to whoever may write.
func (c DecideAlias) CommandName() string {
	if c.Approve {
		return "aliases.approve"
	}
	return "aliases.reject"
}

// QueryName implements cqrs.Query.
func (FindAlias) QueryName() string { return "aliases.read" }

// QueryName implements cqrs.Query.
func (ListAliases) QueryName() string { return "aliases.list" }

// QueryName implements cqrs.Query.
func (AliasHistory) QueryName() string { return "aliases.history" }

// Target implements cqrs.Targeted.
func (c SetAlias) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.Model, c.Alias))
}

// Target implements cqrs.Targeted.
func (c RemoveAlias) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.Model, c.Alias))
}

// Target implements cqrs.Targeted.
func (c DecideAlias) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.Model, c.Alias))
}

// Register adds the commands and queries to the bus.
func Register(b *cqrs.Bus, catalog Catalog) {
	registerAliases(b, catalog)
	registerExperiments(b)
	registerReleases(b)
	registerShadows(b)
	registerAllocations(b)
	registerTakingBack(b)
	registerDriving(b)
}

func registerAliases(b *cqrs.Bus, catalog Catalog) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c SetAlias) (*LoadedAlias, error) {
		return set(ctx, tx, catalog, c)
	}, cqrs.Platform())
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c RemoveAlias) (*LoadedAlias, error) {
		return change(ctx, tx, c.Model, c.Alias, c.Expect, func(a *Alias) ([]aggregate.Event, error) { return a.remove(askerOf(ctx)) })
	}, cqrs.Platform())
	decide := func(ctx context.Context, tx *repo.Tx, c DecideAlias) (*LoadedAlias, error) {
		return change(ctx, tx, c.Model, c.Alias, c.Expect, func(a *Alias) ([]aggregate.Event, error) {
			events, err := a.decide(c.Approve, askerOf(ctx))
			if err == nil && c.Approve && !a.Proposed.Remove {
				_, err = find(catalog, a.Model, a.Proposed.Version)
			}
			return events, err
		})
	}
	cqrs.HandleAs(b, DecideAlias{Approve: true}.CommandName(), Approve, decide, cqrs.Platform())
	cqrs.HandleAs(b, DecideAlias{}.CommandName(), Write, decide, cqrs.Platform())
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q FindAlias) (*LoadedAlias, error) {
		return getAlias(ctx, from, q.Model, q.Alias)
	}, cqrs.Platform())
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q ListAliases) (spec.Page[LoadedAlias], error) {
		return Aliases.Find(ctx, from, spec.Query[Alias]{Where: ofModel.Eq(q.Model), Limit: q.Limit, After: q.After})
	}, cqrs.Platform())
	cqrs.HandleQuery(b, Read, history, cqrs.Platform())
}

// errNoAlias says that a model has no such alias.
func errNoAlias(model, alias string) error {
	return fault.New(fault.NotFound, "model '%s' has no alias '%s'", fault.Clip(model, 64), fault.Clip(alias, 64)).WithCode("alias_not_found")
}

// getAlias returns an alias that exists.
func getAlias(ctx context.Context, from repo.Reading, model, alias string) (*LoadedAlias, error) {
	a, err := Aliases.Get(ctx, from, AliasIDOf(model, alias))
	if errors.Is(err, repo.ErrNotFound) || err == nil && !a.State.Exists {
		err = errNoAlias(model, alias)
	}
	return &a, err
}

// set points an alias to a version, and makes the alias if there is none.
func set(ctx context.Context, tx *repo.Tx, catalog Catalog, c SetAlias) (*LoadedAlias, error) {
	if err := checkName(c.Alias); err != nil {
		return nil, err
	}
	artifact, err := catalog.Find(c.Model, c.Version)
	if err != nil {
		return nil, missing(c.Model, c.Version, err)
	}
	to := func(a *Alias) Pointing {
		p := Pointing{artifact.Version, artifact.Digest, a.Protected}
		if c.Protected != nil {
			p.Protected = *c.Protected
		}
		return p
	}
	id, by := AliasIDOf(c.Model, c.Alias), askerOf(ctx)
	a, err := Aliases.Append(ctx, tx, id, func(l LoadedAlias) ([]aggregate.Event, error) {
		if err := c.Expect.check(l.State.Exists, l.Version); err != nil {
			return nil, err
		}
		return l.State.point(c.Model, c.Alias, to(&l.State), by)
	})
	if !errors.Is(err, repo.ErrNotFound) {
		return &a, err
	}
	if err := c.Expect.check(false, 0); err != nil {
		return nil, err
	}
	events, err := new(Alias).point(c.Model, c.Alias, to(new(Alias)), by)
	if err != nil {
		return nil, err
	}
	a, err = Aliases.Begin(ctx, tx, id, events...)
	return &a, err
}

// missing says that a version cannot serve, so that nothing may point to it.
func missing(model, version string, err error) error {
	if fault.CodeOf(err) == "model_not_found" {
		return err
	}
	return fault.Wrap(fault.Unprocessable, err, "model '%s' has no version '%s' that can serve: %s", fault.Clip(model, 64), fault.Clip(version, 64), fault.Of(err).Message).WithCode("version_missing")
}

// change changes an alias that exists.
func change(ctx context.Context, tx *repo.Tx, model, alias string, expect Expectation, decide func(*Alias) ([]aggregate.Event, error)) (*LoadedAlias, error) {
	a, err := Aliases.Append(ctx, tx, AliasIDOf(model, alias), func(l LoadedAlias) ([]aggregate.Event, error) {
		if !l.State.Exists {
			return nil, errNoAlias(model, alias)
		}
		if err := expect.check(true, l.Version); err != nil {
			return nil, err
		}
		return decide(&l.State)
	})
	if errors.Is(err, repo.ErrNotFound) {
		err = errNoAlias(model, alias)
	}
	return &a, err
}

// history returns what an alias pointed to.
func history(ctx context.Context, from repo.Reading, q AliasHistory) ([]AliasChange, error) {
	if _, err := Aliases.Get(ctx, from, AliasIDOf(q.Model, q.Alias)); err != nil {
		if errors.Is(err, repo.ErrNotFound) {
			err = errNoAlias(q.Model, q.Alias)
		}
		return nil, err
	}
	var changes []AliasChange
	for r, err := range Aliases.History(ctx, from, AliasIDOf(q.Model, q.Alias), q.After) {
		if err != nil {
			return nil, err
		}
		c, ok := changeOf(r)
		switch {
		case !ok:
		case q.AsOf.IsZero():
			if changes = append(changes, c); len(changes) == q.Limit {
				return changes, nil
			}
		case c.At.After(q.AsOf):
			return changes, nil
		default:
			changes = []AliasChange{c}
		}
	}
	return changes, nil
}

// changeOf returns what an event made an alias point to, if it did.
func changeOf(r eventstore.Recorded) (AliasChange, bool) {
	c := AliasChange{Sequence: r.Sequence, At: r.Time, By: r.Actor}
	switch e := r.Event.(type) {
	case AliasSet:
		c.Pointing, c.ProposedBy, c.Release = e.Pointing, e.ProposedBy, e.Release
	case AliasRemoved:
		c.Removed, c.ProposedBy = true, e.ProposedBy
	default:
		return c, false
	}
	return c, true
}
