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

// asSystem has what the platform does by itself be a command of the actor "system", whose
// entry in the audit log is that of a tenant: of who began what is changed.
func asSystem(ctx context.Context, tenant string) context.Context {
	return access.With(ctx, &access.Principal{Tenant: tenant, Kind: access.KindService, Subject: "system", Permissions: access.SetOf(Read, Write)})
}

// asSystemFor is asSystem with the tenant of who acts, whose rights are not asked for.
func asSystemFor(ctx context.Context) context.Context { return asSystem(ctx, tenantOf(ctx)) }

// tenantOf returns the tenant of who acts, empty where nobody does.
func tenantOf(ctx context.Context) string {
	if p, ok := access.From(ctx); ok {
		return p.Tenant
	}
	return ""
}

// judge has a release be judged by what was measured. Its entry in the audit log says what
// follows, and commits to the event, which has the numbers.
type judge struct {
	cqrs.Returns[*LoadedRelease]
	release  *LoadedRelease // as it was when that was measured
	measured evidence.Measured
	outcome  release.Outcome // that was seen beforehand
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

// errOvertaken refuses a judgement of what a release is not any more.
var errOvertaken = fault.New(fault.Conflict, "the release has changed since it was measured: it is judged again").WithCode("release_overtaken")

func registerDriving(b *cqrs.Bus) {
	for _, o := range []release.Outcome{release.Hold, release.Advance, release.Ask, release.Stop, release.Revert} {
		cqrs.HandleAs(b, judge{outcome: o}.CommandName(), Write, decide, cqrs.Platform())
	}
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c promoteAlias) (*LoadedAlias, error) {
		return change(ctx, tx, c.model, c.alias, Expectation{Any: true}, func(a *Alias) ([]aggregate.Event, error) { return a.settle(c.holder, true) })
	}, cqrs.Platform())
}

// decide judges a release, unless somebody was faster, or what follows is something else by now.
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

// outcomeOf returns what follows by the events of a judgement, empty for nothing at all.
func outcomeOf(events []aggregate.Event) release.Outcome {
	if len(events) > 0 {
		if j, ok := events[0].(release.Judged); ok {
			return j.Outcome
		}
	}
	return ""
}
