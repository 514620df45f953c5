package rollout

import (
	"context"
	"errors"

	"sluice/internal/inference/release"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// takeBack has an alias be what it was before a change that ought not to have been made.
type takeBack struct {
	cqrs.Returns[*LoadedAlias]
	model, alias string
	version      int64 // that the change has made
}

// CommandName implements cqrs.Command.
func (takeBack) CommandName() string { return "aliases.take_back" }

// Target implements cqrs.Targeted.
func (c takeBack) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.model, c.alias))
}

func registerTakingBack(b *cqrs.Bus) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c takeBack) (*LoadedAlias, error) {
		before, err := beforeLast(ctx, tx, AliasIDOf(c.model, c.alias))
		if err != nil {
			return nil, err
		}
		return change(ctx, tx, c.model, c.alias, Expectation{Version: c.version}, func(*Alias) ([]aggregate.Event, error) {
			if !before.Exists {
				return []aggregate.Event{AliasRemoved{}}, nil
			}
			return []aggregate.Event{AliasSet{Model: c.model, Alias: c.alias, Pointing: before.Pointing}}, nil
		})
	}, cqrs.Platform())
}

// beforeLast returns what an alias was before the last that happened to it. Who changes it
// cannot know: others may have, between any look of theirs and the commit.
func beforeLast(ctx context.Context, tx *repo.Tx, id AliasID) (before Alias, err error) {
	now, err := Aliases.Get(ctx, tx, id)
	if err != nil {
		return before, err
	}
	for r, err := range Aliases.History(ctx, tx, id, 0) {
		if err != nil || r.Sequence >= now.Sequence {
			return before, err
		}
		applyAlias(&before, r.Event, r.Time)
	}
	return before, nil
}

// breaks returns why a graph that uses an alias cannot work with a version, as it is known
// behind a commit. No unit of work spans the graph and the alias, so who points the alias
// looks before it does and again when it has: a graph that was registered meanwhile is seen.
// That the registry cannot be asked just then undoes nothing.
func (s *Service) breaks(ctx context.Context, model, alias string, version int64) error {
	if err := s.fits(ctx, model, alias, version); fault.CodeOf(err) == "alias_breaks_graph" {
		return err
	}
	return nil
}

// lookBehind takes back that an alias was pointed elsewhere where a graph was registered
// meanwhile that could not work with that. What somebody has changed since stays.
func (s *Service) lookBehind(ctx context.Context, a *LoadedAlias) error {
	broken := s.breaks(ctx, a.State.Model, a.State.Name, a.State.Version)
	if broken == nil {
		return nil
	}
	ctx = access.With(context.WithoutCancel(ctx), platform)
	_, err := cqrs.Send(ctx, s.bus, takeBack{model: a.State.Model, alias: a.State.Name, version: a.Root.Version})
	return errors.Join(broken, err)
}

// lookBehindRelease rolls a release back for the same reason.
func (s *Service) lookBehindRelease(ctx context.Context, id release.ID, model, alias string, version int64) error {
	broken := s.breaks(ctx, model, alias, version)
	if broken == nil {
		return nil
	}
	ctx = access.With(context.WithoutCancel(ctx), platform)
	_, err := cqrs.Send(ctx, s.bus, ActOnRelease{ID: id, Action: RollBack, Reason: "a graph uses the alias", Expect: Expectation{Any: true}})
	return errors.Join(broken, err)
}
