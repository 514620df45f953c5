package registry

import (
	"cmp"
	"context"
	"errors"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Sweep removes deleted versions whose time to be restored is over, and their
// objects. It returns how many. What is needed again is left, and told in the error.
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

var errRestored = errors.New("it was restored meanwhile, and may have been deleted again")

// purge erases a deleted version whose time is over, as it is now, then its objects: what is left of them nothing
// owns any more. Its number stays its digest's.
func (s *Service) purge(ctx context.Context, old *Version) error {
	var files []File
	err := s.store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		there, err := Versions.Exists(ctx, tx, old.ID) // the commit fails where it changes after this
		if err != nil || there {
			return cmp.Or(err, errRestored)
		}
		now, err := findGone(ctx, tx, gone{model: old.Model, number: old.Number})
		if err != nil {
			return err
		}
		if !now.Deleted() || tx.Now().Before(now.Purge) {
			return errRestored
		}
		if err := s.unused(ctx, tx, now); err != nil { // an alias was set to it as it was deleted
			return err
		}
		files = now.Files
		return Versions.Erase(ctx, tx, old.ID)
	})
	if errors.Is(err, errRestored) || errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.outcomes.WithLabelValues("purged").Inc()
	s.drop(ctx, files)
	return nil
}
