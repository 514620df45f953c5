package rollout

import (
	"context"

	"sluice/internal/inference/release"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Action is what a person does to a release.
type Action string

// The actions.
const (
	Pause    Action = "pause"
	Resume   Action = "resume"
	RollBack Action = "rollback"
	Agree    Action = "approve" // by another person than the one who began it
)

// beginRelease begins a release whose alias is held.
type beginRelease struct {
	cqrs.Returns[*LoadedRelease]
	id   release.ID
	plan release.Plan
}

// ActOnRelease carries out a person's action.
type ActOnRelease struct {
	cqrs.Returns[*LoadedRelease]
	ID     release.ID
	Action Action
	Reason string // of a pause or a rollback
	Expect Expectation
}

// FindRelease asks for one release.
type FindRelease struct {
	cqrs.Returns[*LoadedRelease]
	ID release.ID
}

// ListReleases asks for a page of releases, of one model or all.
type ListReleases struct {
	cqrs.Returns[spec.Page[LoadedRelease]]
	Model, After string
	Limit        int
}

// ReleaseEvents asks for what happened to a release: at most Limit events behind the
// sequence After.
type ReleaseEvents struct {
	cqrs.Returns[[]eventstore.Recorded]
	ID    release.ID
	After int64
	Limit int
}

// ReplayRelease has every decision of a release made again.
type ReplayRelease struct {
	cqrs.Returns[Replayed]
	ID release.ID
}

// LastDecision asks for the latest judgement of a release, nil where there is none.
type LastDecision struct {
	cqrs.Returns[*release.Judged]
	ID release.ID
}

// Replayed is the outcome of ReplayRelease.
type Replayed struct {
	Events  int // gone through
	State   release.State
	Differs error // what does not follow from its numbers; nil where everything does
}

// CommandName implements cqrs.Command.
func (c beginRelease) CommandName() string {
	if len(c.plan.Steps) > 0 && c.plan.Steps[0].Shadow {
		return "releases.start_shadow"
	}
	return "releases.start"
}

// CommandName implements cqrs.Command.
func (c ActOnRelease) CommandName() string { return "releases." + string(c.Action) }

// QueryName implements cqrs.Query.
func (FindRelease) QueryName() string { return "releases.read" }

// QueryName implements cqrs.Query.
func (ListReleases) QueryName() string { return "releases.list" }

// QueryName implements cqrs.Query.
func (ReleaseEvents) QueryName() string { return "releases.events" }

// QueryName implements cqrs.Query.
func (ReplayRelease) QueryName() string { return "releases.replay" }

// QueryName implements cqrs.Query.
func (LastDecision) QueryName() string { return "releases.decision" }

// Target implements cqrs.Targeted.
func (c beginRelease) Target() (kind, id string) { return release.Releases.Name, string(c.id) }

// Target implements cqrs.Targeted.
func (c ActOnRelease) Target() (kind, id string) { return release.Releases.Name, string(c.ID) }

// registerReleases adds the commands and queries of releases to the bus.
func registerReleases(b *cqrs.Bus) {
	begin := func(ctx context.Context, tx *repo.Tx, c beginRelease) (*LoadedRelease, error) {
		events, err := release.Start(c.plan)
		if err != nil {
			return nil, err
		}
		r, err := release.Releases.Begin(ctx, tx, c.id, events...)
		return &r, err
	}
	for _, shadow := range []bool{false, true} { // the audit log tells them apart
		first := release.Step{Shadow: shadow}
		cqrs.HandleAs(b, beginRelease{plan: release.Plan{Steps: []release.Step{first}}}.CommandName(), Write, begin, cqrs.Platform())
	}
	for _, a := range []Action{Pause, Resume, RollBack} {
		cqrs.HandleAs(b, ActOnRelease{Action: a}.CommandName(), Write, act, cqrs.Platform())
	}
	cqrs.HandleAs(b, ActOnRelease{Action: Agree}.CommandName(), Approve, act, cqrs.Platform())
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q FindRelease) (*LoadedRelease, error) {
		r, err := release.Releases.Get(ctx, from, q.ID)
		return &r, named(err, "release", string(q.ID))
	}, cqrs.Platform())
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q ListReleases) (spec.Page[LoadedRelease], error) {
		query := spec.Query[release.State]{Limit: q.Limit, After: q.After}
		if q.Model != "" {
			query.Where = release.OfModel(q.Model)
		}
		return release.Releases.Find(ctx, from, query)
	}, cqrs.Platform())
	cqrs.HandleQuery(b, Read, events, cqrs.Platform())
	cqrs.HandleQuery(b, Read, replay, cqrs.Platform())
	cqrs.HandleQuery(b, Read, lastDecision, cqrs.Platform())
}

// act does what a person wants with a release.
func act(ctx context.Context, tx *repo.Tx, c ActOnRelease) (*LoadedRelease, error) {
	r, err := release.Releases.Append(ctx, tx, c.ID, func(l LoadedRelease) ([]aggregate.Event, error) {
		if err := c.Expect.check(true, l.Version); err != nil {
			return nil, err
		}
		switch c.Action {
		case Pause:
			return l.State.Pause(c.Reason)
		case Resume:
			return l.State.Resume()
		case Agree:
			by := askerOf(ctx)
			if by.nobody {
				return nil, errNobody
			}
			if by.is(l.CreatedBy, l.State.Plan.Requester) {
				by.subject = l.CreatedBy
			}
			return l.State.Approve(by.subject, l.CreatedBy)
		}
		return l.State.RollBack(c.Reason)
	})
	return &r, named(err, "release", string(c.ID))
}

// events returns what happened to a release.
func events(ctx context.Context, from repo.Reading, q ReleaseEvents) ([]eventstore.Recorded, error) {
	var out []eventstore.Recorded
	for r, err := range release.Releases.History(ctx, from, q.ID, q.After) {
		if err != nil {
			return nil, err
		}
		if out = append(out, r); len(out) == q.Limit {
			break
		}
	}
	return out, nil
}

// lastDecision returns the latest judgement of a release.
func lastDecision(ctx context.Context, from repo.Reading, q LastDecision) (last *release.Judged, err error) {
	for r, err := range release.Releases.History(ctx, from, q.ID, 0) {
		if err != nil {
			return nil, err
		}
		if j, ok := r.Event.(release.Judged); ok {
			last = &j
		}
	}
	return last, nil
}

// replay makes every decision of a release again. A history that cannot be read is an
// error: nothing is known of whether it differs.
func replay(ctx context.Context, from repo.Reading, q ReplayRelease) (Replayed, error) {
	if _, err := release.Releases.Get(ctx, from, q.ID); err != nil {
		return Replayed{}, named(err, "release", string(q.ID))
	}
	var out Replayed
	var unread error
	history := func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range release.Releases.History(ctx, from, q.ID, 0) {
			if err != nil {
				unread = err
			}
			out.Events++
			if !yield(r, err) {
				return
			}
		}
	}
	out.State, out.Differs = release.Replay(history)
	return out, unread
}
