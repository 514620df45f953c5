package registry

import (
	"cmp"
	"context"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// Delete deletes a version, and restores it if something began to need it while that was
// committed, see Naming.
func (s *Service) Delete(ctx context.Context, c Delete) error {
	v, err := cqrs.Send(ctx, s.bus, c)
	if err != nil {
		return err
	}
	needed := s.unused(ctx, s.store.Read(repo.Scope{}), v)
	if needed == nil {
		return nil
	}
	if _, err := cqrs.Send(context.WithoutCancel(ctx), s.bus, Restore{Model: c.Model, Number: c.Number, back: true}); err != nil {
		return err
	}
	return needed
}

// Restore brings a deleted version back. The models of a graph have to be served, and are
// kept meanwhile.
func (s *Service) Restore(ctx context.Context, c Restore) (*Version, error) {
	v, err := cqrs.Ask(ctx, s.bus, gone{model: c.Model, number: c.Number})
	if err != nil {
		return nil, err
	}
	if v.Deleted() && s.store.Now().Before(v.Purge) && v.Stage.needsMembers() {
		var end func()
		if ctx, end, err = s.keepMembers(ctx, v); err != nil {
			return nil, err
		}
		defer end()
	}
	return cqrs.Send(ctx, s.bus, c)
}

// Change changes the notes of a version and its stage. An archiving is undone if something
// began to need the version while that was committed. The models of a graph that is to serve
// or to be tried again are kept meanwhile.
func (s *Service) Change(ctx context.Context, c Note) (*Version, error) {
	if c.Stage == Ready || c.Stage == Registered {
		v, err := cqrs.Ask(ctx, s.bus, gone{model: c.Model, number: c.Number})
		if err != nil {
			return nil, err
		}
		var end func()
		if ctx, end, err = s.keepMembers(ctx, v); err != nil {
			return nil, err
		}
		defer end()
	}
	v, err := cqrs.Send(ctx, s.bus, c)
	if err != nil || c.Stage != Archived || v.left == Archived {
		return v.Version, err
	}
	return s.archived(ctx, v)
}

// archived undoes the archiving of a version that is needed.
func (s *Service) archived(ctx context.Context, v Noting) (*Version, error) {
	needed := s.unused(ctx, s.store.Read(repo.Scope{}), v.Version)
	if needed == nil {
		return v.Version, nil
	}
	back := Note{Model: v.Model, Number: v.Number, Expect: v.Root.Expect, Stage: v.left, back: true}
	_, err := cqrs.Send(context.WithoutCancel(ctx), s.bus, back)
	return nil, cmp.Or(err, needed)
}
