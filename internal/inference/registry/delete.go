package registry

import (
	"context"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// Delete deletes a version, and brings it back where somebody began to need it while that
// was committed, see Naming.
func (s *Service) Delete(ctx context.Context, c Delete) error {
	v, err := cqrs.Send(ctx, s.bus, c)
	if err != nil {
		return err
	}
	needed := s.unused(ctx, s.store.Read(repo.Scope{}), v)
	if needed == nil {
		return nil
	}
	if _, err := cqrs.Send(context.WithoutCancel(ctx), s.bus, Restore{Model: c.Model, Number: c.Number}); err != nil {
		return err
	}
	return needed
}

// Change changes what is noted of a version and its stage. One that is archived is ready
// again where somebody began to need it while that was committed.
func (s *Service) Change(ctx context.Context, c Note) (*Version, error) {
	v, err := cqrs.Send(ctx, s.bus, c)
	if err != nil || c.Stage != Archived {
		return v, err
	}
	needed := s.unused(ctx, s.store.Read(repo.Scope{}), v)
	if needed == nil {
		return v, nil
	}
	back := Note{Model: c.Model, Number: c.Number, Expect: v.Root.Expect, Change: func(*Notes) {}, Stage: Ready}
	if _, err := cqrs.Send(context.WithoutCancel(ctx), s.bus, back); err != nil {
		return nil, err
	}
	return nil, needed
}
