package rollout

import (
	"context"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/release"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// asSystem returns the context for commands that the platform gives by itself. They are in
// the audit log of the tenant that began what they change.
func asSystem(ctx context.Context, tenant string) context.Context {
	return access.With(ctx, &access.Principal{Tenant: tenant, Kind: access.KindService, Subject: "system", Permissions: access.SetOf(Read, Write)})
}

// asSystemFor is asSystem for the caller's tenant, whatever the caller may do.
func asSystemFor(ctx context.Context) context.Context { return asSystem(ctx, tenantOf(ctx)) }

// tenantOf returns the caller's tenant, empty where there is no caller.
func tenantOf(ctx context.Context) string {
	if p, ok := access.From(ctx); ok {
		return p.Tenant
	}
	return ""
}

// judge judges a release by what was measured. Its entry in the audit log has the outcome,
// and commits to the event, which has the numbers.
type judge struct {
	cqrs.Returns[*LoadedRelease]
	release  *LoadedRelease // as it was when that was measured
	measured evidence.Measured
	outcome  release.Outcome // expected: the command fails where another follows
}

// promoteAlias points an alias to what a release that holds it has promoted.
type promoteAlias struct {
	cqrs.Returns[*LoadedAlias]
	model, alias, holder string
}

// CommandName implements cqrs.Command.
func (c judge) CommandName() string { return "releases.judge_" + string(c.outcome) }

// CommandName implements cqrs.Command.
func (promoteAlias) CommandName() string { return "aliases.promote" }

// Target implements cqrs.Targeted.
func (c judge) Target() (kind, id string) { return release.Releases.Name, string(c.release.Root.ID) }

// Target implements cqrs.Targeted.
func (c promoteAlias) Target() (kind, id string) {
	return Aliases.Name, string(AliasIDOf(c.model, c.alias))
}

// errOvertaken refuses to judge a release that has changed since it was measured.
var errOvertaken = fault.New(fault.Conflict, "the release has changed since it was measured: it is judged again").WithCode("release_overtaken")

func registerDriving(b *cqrs.Bus) {
	for _, o := range []release.Outcome{release.Hold, release.Advance, release.Ask, release.Stop, release.Revert} {
		cqrs.HandleAs(b, judge{outcome: o}.CommandName(), Write, decide, cqrs.Platform())
	}
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c promoteAlias) (*LoadedAlias, error) {
		return change(ctx, tx, c.model, c.alias, Expectation{Any: true}, func(a *Alias) ([]aggregate.Event, error) { return a.settle(c.holder, true) })
	}, cqrs.Platform())
}

// decide judges a release, unless it has changed or another outcome follows by now.
func decide(ctx context.Context, tx *repo.Tx, c judge) (*LoadedRelease, error) {
	r, err := release.Releases.Append(ctx, tx, c.release.Root.ID, func(l LoadedRelease) ([]aggregate.Event, error) {
		if l.Version != c.release.Version {
			return nil, errOvertaken
		}
		events, err := l.State.Assess(c.measured, tx.Now())
		if err == nil && outcomeOf(events) != c.outcome {
			err = errOvertaken
		}
		return events, err
	})
	return &r, err
}

// outcomeOf returns the outcome among the events of a judgement, empty for none.
func outcomeOf(events []aggregate.Event) release.Outcome {
	if len(events) > 0 {
		if j, ok := events[0].(release.Judged); ok {
			return j.Outcome
		}
	}
	return ""
}
