package registry

import (
	"context"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// Delete deletes a version, and brings it back where somebody began to need it while that
// was committed: no transaction spans a version and the aliases that name it.
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
