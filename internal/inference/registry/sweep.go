package registry

import (
	"context"
	"errors"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Sweep removes deleted versions whose time to be restored is over, and their
// objects. It returns how many.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	n := 0
	var errs []error
	due := spec.Query[Version]{Where: purgeField.Le(s.store.Now()), Deleted: spec.OnlyDeleted}
	for v, err := range Versions.All(ctx, s.store.Read(repo.Scope{}), due) {
		if err != nil {
			return n, errors.Join(append(errs, err)...)
		}
		if err := s.purge(ctx, &v); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

var errRestored = errors.New("it was restored meanwhile")

// purge erases a deleted version, then its objects: what is left of them nothing
// owns any more. Its number stays its digest's.
func (s *Service) purge(ctx context.Context, old *Version) error {
	err := s.store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		there, err := Versions.Exists(ctx, tx, old.ID)
		if err == nil && there {
			err = errRestored
		}
		if err != nil {
			return err
		}
		return Versions.Erase(ctx, tx, old.ID)
	})
	if errors.Is(err, errRestored) || errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.outcomes.WithLabelValues("purged").Inc()
	s.drop(ctx, old.Files)
	return nil
}
