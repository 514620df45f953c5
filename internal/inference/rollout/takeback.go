package rollout

import (
	"cmp"
	"context"
	"errors"
	"time"

	"sluice/internal/inference/release"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// takeBack undoes the last change of an alias.
type takeBack struct {
	cqrs.Returns[*LoadedAlias]
	model, alias string
	version      int64 // of the alias, which the change has made
}

// CommandName implements cqrs.Command.
func (takeBack) CommandName() string { return "aliases.take_back" }

// Target implements cqrs.Targeted.
func (c takeBack) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.model, c.alias))
}

func registerTakingBack(b *cqrs.Bus) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c takeBack) (*LoadedAlias, error) {
		before, last, err := beforeLast(ctx, tx, AliasIDOf(c.model, c.alias))
		if err != nil {
			return nil, err
		}
		return change(ctx, tx, c.model, c.alias, Expectation{Version: c.version}, func(*Alias) ([]aggregate.Event, error) {
			if set, ok := last.(AliasSet); !ok || set.Release != "" {
				return nil, fault.New(fault.Conflict, "the alias led there before").WithCode("alias_leads_there")
			}
			if !before.Exists {
				return []aggregate.Event{AliasRemoved{}}, nil
			}
			return []aggregate.Event{AliasSet{Model: c.model, Alias: c.alias, Pointing: before.Pointing}}, nil
		})
	}, cqrs.Platform())
}

// beforeLast returns the last event of an alias, and what the alias was before it. Whoever
// made that change cannot tell: others may have changed the alias just before.
func beforeLast(ctx context.Context, tx *repo.Tx, id AliasID) (before Alias, last aggregate.Event, err error) {
	now, err := Aliases.Get(ctx, tx, id)
	if err != nil {
		return before, nil, err
	}
	for r, err := range Aliases.History(ctx, tx, id, 0) {
		if err != nil || r.Sequence >= now.Sequence {
			return before, r.Event, err
		}
		applyAlias(&before, r.Event, r.Time)
	}
	return before, nil, nil
}

// lookTime bounds a look after a commit.
const lookTime = 10 * time.Second

// breaks returns why a graph that uses an alias cannot work with a version, after the alias
// was pointed to it. No unit of work spans the graph and the alias, so whoever points the
// alias looks before the commit and again after it: then it sees a graph that was registered
// meanwhile. It looks even where the caller has gone; where the registry cannot be asked,
// nothing is undone.
func (s *Service) breaks(ctx context.Context, model, alias string, version int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	if err := s.fits(ctx, model, alias, version); fault.CodeOf(err) == "alias_breaks_graph" {
		return err
	}
	return nil
}

// lookBehind takes a change of an alias back where a graph was registered meanwhile that
// cannot work with it. What somebody has changed since stays.
func (s *Service) lookBehind(ctx context.Context, a *LoadedAlias) error {
	broken := s.breaks(ctx, a.State.Model, a.State.Name, a.State.Version)
	if broken == nil {
		return nil
	}
	ctx = asSystemFor(context.WithoutCancel(ctx))
	_, err := cqrs.Send(ctx, s.bus, takeBack{model: a.State.Model, alias: a.State.Name, version: a.Root.Version})
	if err != nil {
		return fault.Wrap(fault.Conflict, errors.Join(broken, err), "the alias may lead to a version that a graph cannot work with: what was done could not be taken back, as something else has changed the alias or holds it. Read it, and point it elsewhere or archive the graph").WithCode("alias_leads_there")
	}
	return broken
}

// lookAfter calls lookBehind for a change, also for one that may have been made, or was made
// by an earlier attempt, which may have died before it looked.
func (s *Service) lookAfter(ctx context.Context, model, alias string, version int64, a *LoadedAlias, err error) error {
	if errors.Is(err, repo.ErrOutcomeUnknown) || errors.Is(err, repo.ErrProcessed) {
		ctx, cancel := context.WithTimeout(asSystemFor(context.WithoutCancel(ctx)), lookTime)
		defer cancel()
		now, failed := cqrs.Ask(ctx, s.bus, FindAlias{Model: model, Alias: alias})
		if failed != nil || now.State.Version != version {
			return err
		}
		return cmp.Or(s.lookBehind(ctx, now), err)
	}
	if err != nil || a.State.Proposed != nil {
		return err
	}
	return s.lookBehind(ctx, a)
}

// lookBehindRelease rolls a release back for the same reason as lookBehind.
func (s *Service) lookBehindRelease(ctx context.Context, id release.ID, model, alias string, version int64) error {
	broken := s.breaks(ctx, model, alias, version)
	if broken == nil {
		return nil
	}
	ctx = asSystemFor(context.WithoutCancel(ctx))
	_, err := cqrs.Send(ctx, s.bus, ActOnRelease{ID: id, Action: RollBack, Reason: "a graph uses the alias", Expect: Expectation{Any: true}})
	return errors.Join(broken, err)
}
