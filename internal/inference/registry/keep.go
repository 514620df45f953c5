package registry

import (
	"context"
	"errors"
	"maps"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Naming keeps a version while others, an alias say, are about to name it. It has the
// version's id.
//
// No unit of work spans a version and what names it, so both sides write first and then
// look. Whoever names a version writes here, looks whether the version exists, and then
// names it. Whoever deletes or archives one does that, then looks here and for what names
// the version, and undoes it if there is something. So one of the two always sees the other.
type Naming struct {
	aggregate.Root[ID]
	Until map[string]time.Time `json:"until"` // by whoever is about to name it, under a random name
}

// Namings keeps them.
var Namings = repo.Kind[ID, Naming]{
	Name: "model_version_namings", Root: func(n *Naming) *aggregate.Root[ID] { return &n.Root },
	Expires: func(n *Naming) (last time.Time) {
		for _, until := range n.Until {
			if until.After(last) {
				last = until
			}
		}
		return last
	},
}

const codeMissing = "version_missing"

// namingTime is how long a version is kept for whoever dies while naming it; the living have
// half of that.
const namingTime = time.Minute

// Keep keeps versions of a model while something begins to name them, within the returned
// context and until the returned function is called. It fails with fault.Unprocessable and
// the code "version_missing" where one was deleted or archived. Versions of the model folder
// it leaves alone.
func (s *Service) Keep(ctx context.Context, model string, numbers ...int64) (context.Context, func(), error) {
	all := make([]numberOf, len(numbers))
	for i, n := range numbers {
		all[i] = numberOf{model, n}
	}
	return s.keepAll(ctx, all)
}

// numberOf is a version by its number.
type numberOf struct {
	model  string
	number int64
}

func (s *Service) keepAll(ctx context.Context, all []numberOf) (context.Context, func(), error) {
	if len(all) == 0 {
		return ctx, func() {}, nil
	}
	who := repo.RandomName()
	var kept []ID
	end := func() {
		for _, id := range kept {
			s.forget(context.WithoutCancel(ctx), id, who)
		}
	}
	for _, v := range all {
		named, err := s.begin(ctx, v.model, v.number, who)
		if named {
			kept = append(kept, IDOf(v.model, v.number))
		}
		if err != nil {
			end()
			return ctx, nil, err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, namingTime/2)
	return bounded, func() { cancel(); end() }, nil
}

// begin keeps one version, if the registry has it, and returns whether it did.
func (s *Service) begin(ctx context.Context, model string, number int64, who string) (named bool, err error) {
	from := s.store.Read(repo.Scope{})
	if _, err := findGone(ctx, from, gone{model: model, number: number}); err != nil {
		if errors.Is(err, repo.ErrNotFound) {
			err = nil // it is the folder's
		}
		return false, err
	}
	err = s.naming(ctx, IDOf(model, number), func(n *Naming, now time.Time) {
		maps.DeleteFunc(n.Until, func(_ string, until time.Time) bool { return !now.Before(until) })
		n.Until[who] = now.Add(namingTime)
	})
	if err != nil {
		return false, err
	}
	v, err := findGone(ctx, from, gone{model: model, number: number})
	if err != nil || !v.Deleted() && v.Stage == Ready {
		return true, err
	}
	taken, err := s.cfg.Taken(ctx, model)
	if err == nil && !taken(number) {
		err = fault.New(fault.Unprocessable, "version %d of model %q was deleted or archived: nothing can name it", number, model).WithCode(codeMissing)
	}
	return true, err
}

// namingAttempts bounds the attempts to make an aggregate that others make at the same time.
const namingAttempts = 10

// naming changes who is about to name a version. A Naming without anybody is erased.
func (s *Service) naming(ctx context.Context, id ID, change func(*Naming, time.Time)) error {
	for attempt := 1; ; attempt++ {
		err := s.store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
			return changeNaming(ctx, tx, id, func(n *Naming) error { change(n, tx.Now()); return nil })
		})
		if !errors.Is(err, repo.ErrExists) || attempt == namingAttempts {
			return err
		}
	}
}

func changeNaming(ctx context.Context, tx *repo.Tx, id ID, change func(*Naming) error) error {
	n, err := Namings.Get(ctx, tx, id)
	missing := errors.Is(err, repo.ErrNotFound)
	if missing {
		n, err = Naming{Until: map[string]time.Time{}}, nil
		n.ID = id
	}
	if err == nil {
		err = change(&n)
	}
	switch nobody := len(n.Until) == 0; {
	case err != nil || missing && nobody:
		return err
	case missing:
		return Namings.Add(ctx, tx, &n)
	case nobody:
		return Namings.Erase(ctx, tx, id)
	}
	_, err = Namings.Update(ctx, tx, id, change)
	return err
}

// forget notes that somebody is done with naming a version. Where that fails, namingTime ends it.
func (s *Service) forget(ctx context.Context, id ID, who string) {
	err := s.naming(ctx, id, func(n *Naming, _ time.Time) { delete(n.Until, who) })
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "a model version is kept for up to a minute longer: it could not be noted that whoever named it is done", "id", id, "error", err)
	}
}

// beingNamed reports whether somebody is about to name a version. Ask it before looking for
// what names the version: whoever is done here has named it.
func (s *Service) beingNamed(ctx context.Context, from repo.Reading, id ID) (bool, error) {
	n, err := Namings.Get(ctx, from, id)
	if errors.Is(err, repo.ErrNotFound) {
		return false, nil
	}
	now := s.store.Now()
	for _, until := range n.Until {
		if now.Before(until) {
			return true, nil
		}
	}
	return false, err
}
