package registry

import (
	"cmp"
	"context"
	"errors"
	"time"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Sweep removes deleted versions whose time to be restored is over, with their objects, and
// returns how many. Versions that are needed again it leaves, and names in its error.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	n := 0
	var errs []error
	due := spec.Query[Version]{Where: purgeField.Le(s.store.Now()), Order: purgeField.Asc(), Deleted: spec.OnlyDeleted}
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

// purge erases a deleted version whose time is over, and then its objects; the sweep removes
// those that are left. The version's number stays its digest's.
func (s *Service) purge(ctx context.Context, old *Version) error {
	if err := s.due(ctx, s.store.Read(repo.Scope{}), old, s.store.Now()); err != nil {
		return notRestored(err)
	}
	files, err := cqrs.Send(asPlatform(ctx), s.bus, purge{old: old})
	if err != nil {
		return notRestored(err)
	}
	s.outcomes.WithLabelValues("purged").Inc()
	s.drop(ctx, files)
	return nil
}

func notRestored(err error) error {
	if errors.Is(err, errRestored) || errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	return err
}

// due fails where a version must not be purged.
func (s *Service) due(ctx context.Context, from repo.Reading, old *Version, at time.Time) error {
	now, err := findGone(ctx, from, gone{model: old.Model, number: old.Number})
	if err != nil {
		return err
	}
	if !now.Deleted() || at.Before(now.Purge) {
		return errRestored
	}
	return s.unused(ctx, from, now) // an alias was set to it as it was deleted
}

// erase handles purge.
func (s *Service) erase(ctx context.Context, tx *repo.Tx, c purge) ([]File, error) {
	there, err := Versions.Exists(ctx, tx, c.old.ID) // the commit fails where it changes after this
	if err != nil || there {
		return nil, cmp.Or(err, errRestored)
	}
	if err := s.due(ctx, tx, c.old, tx.Now()); err != nil {
		return nil, err
	}
	now, err := findGone(ctx, tx, gone{model: c.old.Model, number: c.old.Number})
	if err != nil {
		return nil, err
	}
	return now.Files, Versions.Erase(ctx, tx, c.old.ID)
}
