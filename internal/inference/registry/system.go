package registry

import (
	"context"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// platform is the principal that tries versions and purges them, by commands like any other,
// which are in the audit log.
var platform = &access.Principal{Kind: access.KindService, Subject: "system", Permissions: access.SetOf(Write)}

func asPlatform(ctx context.Context) context.Context { return access.With(ctx, platform) }

// judge settles the trial of a version.
type judge struct {
	cqrs.Returns[*Version]
	id     ID
	pass   bool
	change func(*Version, time.Time) error
}

// purge erases a deleted version whose time is over, and returns its files.
type purge struct {
	cqrs.Returns[[]File]
	old *Version
}

// CommandName implements cqrs.Command.
func (c judge) CommandName() string {
	if c.pass {
		return "model_versions.validate"
	}
	return "model_versions.reject"
}

// CommandName implements cqrs.Command.
func (purge) CommandName() string { return "model_versions.purge" }

// Target implements cqrs.Targeted.
func (c judge) Target() (kind, id string) { return Versions.Name, string(c.id) }

// Target implements cqrs.Targeted.
func (c purge) Target() (kind, id string) { return Versions.Name, string(c.old.ID) }

func (s *Service) registerPlatform(b *cqrs.Bus) {
	p := cqrs.Platform()
	for _, pass := range []bool{false, true} {
		cqrs.HandleAs(b, judge{pass: pass}.CommandName(), Write, func(ctx context.Context, tx *repo.Tx, c judge) (*Version, error) {
			v, err := Versions.Update(ctx, tx, c.id, func(v *Version) error { return c.change(v, tx.Now()) })
			s.behind(ctx, tx, &v)
			return &v, err
		}, p)
	}
	cqrs.Handle(b, Write, s.erase, p)
}
