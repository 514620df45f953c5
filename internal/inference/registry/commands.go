package registry

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of versions.
const (
	Read  access.Permission = "model_versions:read"
	Write access.Permission = "model_versions:write"
)

// Permissions declares them. Models belong to the whole server, and bringing them
// is what machine learning engineers do.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: Read, About: "see the versions of models in the registry", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: Write, About: "register versions of models, change what is known of them, archive and delete them", Roles: []string{access.MLEngineer}},
	}
}

// Schemas is what the store's migration has to know.
func Schemas() []*repo.Schema {
	return []*repo.Schema{Versions.Schema(), Ledgers.Schema(), Namings.Schema(), Models.Schema()}
}

// number gives a digest its number.
type number struct {
	cqrs.Returns[int64]
	model, digest string
	wanted        int64
	taken         func(int64) bool
}

// add commits a version whose files are kept.
type add struct {
	cqrs.Returns[*Version]
	version Version
}

// Find asks for a version, by its number.
type Find struct {
	cqrs.Returns[*Version]
	Model  string
	Number int64
}

// numbered asks for the number that a digest was given, 0 for none.
type numbered struct {
	cqrs.Returns[int64]
	model, digest string
}

// gone asks for a version, deleted or not.
type gone struct {
	cqrs.Returns[*Version]
	model  string
	number int64
}

// List asks for a page of a model's versions, the greatest number first.
type List struct {
	cqrs.Returns[spec.Page[Version]]
	Model          string
	Stage          Stage  // empty for all
	Digest, SHA256 string // empty for all
	From, To       time.Time
	Label          [2]string // key and value; only this page is narrowed by it
	Deleted        bool      // those that are deleted, instead
	Limit          int
	After          string
}

// Note changes the notes of a version, and its stage.
type Note struct {
	cqrs.Returns[Noting]
	Model  string
	Number int64
	Expect func(version int64) error // checks the aggregate's version
	Change func(*Notes)
	Stage  Stage // empty leaves it as it is
	back   bool  // undoes an archiving: Stage is the one before it, and nothing else is changed
}

// Noting is a version whose notes or stage were changed.
type Noting struct {
	*Version
	left Stage // the stage before
}

// Delete deletes a version, so that it can be restored for a time.
type Delete struct {
	cqrs.Returns[*Version]
	Model  string
	Number int64
	Expect func(version int64) error
}

// Restore brings a deleted version back.
type Restore struct {
	cqrs.Returns[*Version]
	Model  string
	Number int64
	by     *Version // the registration of the same files that brings it back; nil for none
	back   bool     // undoes a deletion: nothing is checked
}

// CommandName implements cqrs.Command.
func (number) CommandName() string { return "model_versions.number" }

// CommandName implements cqrs.Command.
func (add) CommandName() string { return "model_versions.register" }

// CommandName implements cqrs.Command.
func (Note) CommandName() string { return "model_versions.change" }

// CommandName implements cqrs.Command.
func (Delete) CommandName() string { return "model_versions.delete" }

// CommandName implements cqrs.Command.
func (Restore) CommandName() string { return "model_versions.restore" }

// Target implements cqrs.Targeted.
func (c number) Target() (kind, id string) { return Ledgers.Name, string(ledgerID(c.model)) }

// Target implements cqrs.Targeted.
func (c add) Target() (kind, id string) { return Versions.Name, string(c.version.ID) }

// Target implements cqrs.Targeted.
func (c Note) Target() (kind, id string) { return Versions.Name, string(IDOf(c.Model, c.Number)) }

// Target implements cqrs.Targeted.
func (c Delete) Target() (kind, id string) { return Versions.Name, string(IDOf(c.Model, c.Number)) }

// Target implements cqrs.Targeted.
func (c Restore) Target() (kind, id string) { return Versions.Name, string(IDOf(c.Model, c.Number)) }

// QueryName implements cqrs.Query.
func (Find) QueryName() string { return "model_versions.read" }

// QueryName implements cqrs.Query.
func (numbered) QueryName() string { return "model_versions.numbered" }

// QueryName implements cqrs.Query.
func (gone) QueryName() string { return "model_versions.gone" }

// QueryName implements cqrs.Query.
func (List) QueryName() string { return "model_versions.list" }

// register adds the commands and queries to the bus.
func (s *Service) register(b *cqrs.Bus) {
	p := cqrs.Platform()
	cqrs.Handle(b, Write, giveNumber, p)
	cqrs.Handle(b, Write, s.add, p)
	cqrs.Handle(b, Write, s.note, p)
	cqrs.Handle(b, Write, s.remove, p)
	cqrs.Handle(b, Write, s.restore, p)
	s.registerPlatform(b)
	cqrs.HandleQuery(b, Read, find, p)
	cqrs.HandleQuery(b, Write, findNumber, p)
	cqrs.HandleQuery(b, Write, findGone, p)
	cqrs.HandleQuery(b, Read, list, p)
	cqrs.HandleQuery(b, Read, findModel, p)
	cqrs.HandleQuery(b, Read, listModels, p)
}

func giveNumber(ctx context.Context, tx *repo.Tx, c number) (n int64, err error) {
	give := func(l *Ledger) error {
		n, err = l.Give(c.digest, c.wanted, c.taken)
		return err
	}
	_, err = Ledgers.Update(ctx, tx, ledgerID(c.model), give)
	if !errors.Is(err, repo.ErrNotFound) {
		return n, err
	}
	l := &Ledger{Model: c.model}
	if l.ID = ledgerID(c.model); give(l) != nil {
		return n, err
	}
	return n, Ledgers.Add(ctx, tx, l)
}

func (s *Service) add(ctx context.Context, tx *repo.Tx, c add) (*Version, error) {
	v := c.version // the unit of work may run again
	v.ID = IDOf(v.Model, v.Number)
	v.begin()
	s.behind(ctx, tx, &v)
	return &v, Versions.Add(ctx, tx, &v)
}

func (s *Service) note(ctx context.Context, tx *repo.Tx, c Note) (Noting, error) {
	var left Stage
	v, err := Versions.Update(ctx, tx, IDOf(c.Model, c.Number), func(v *Version) error {
		if err := c.Expect(v.Root.Version); err != nil {
			return err
		}
		left = v.Stage
		switch {
		case c.back:
			v.move(c.Stage)
			return nil
		case c.Stage == Archived:
			if err := s.unused(ctx, tx, v); err != nil {
				return err
			}
		case c.Stage == Ready:
			if err := s.membersServe(v); err != nil {
				return err
			}
		}
		c.Change(&v.Notes)
		if err := checkNotes(&v.Notes); err != nil {
			return err
		}
		v.Record(Noted{v.Model, v.Number})
		if c.Stage == "" {
			return nil
		}
		return v.To(c.Stage, tx.Now())
	})
	s.behind(ctx, tx, &v)
	return Noting{&v, left}, err
}

// errInUse refuses to delete, or archive, what somebody needs.
func errInUse(v *Version, why string) error {
	return fault.New(fault.Conflict, "version %d of model %q is in use: %s", v.Number, v.Model, why).WithCode("version_in_use")
}

func (s *Service) remove(ctx context.Context, tx *repo.Tx, c Delete) (*Version, error) {
	id := IDOf(c.Model, c.Number)
	v, err := Versions.Get(ctx, tx, id)
	if err == nil {
		err = c.Expect(v.Root.Version)
	}
	if err == nil {
		err = s.unused(ctx, tx, &v)
	}
	if err != nil {
		return nil, err
	}
	v, err = Versions.Update(ctx, tx, id, func(v *Version) error { v.Purge = tx.Now().Add(s.cfg.Retention); return nil })
	if err != nil {
		return nil, err
	}
	s.behind(ctx, tx, &v)
	return &v, Versions.Delete(ctx, tx, id, Removed(v.changed()))
}

func (s *Service) restore(ctx context.Context, tx *repo.Tx, c Restore) (*Version, error) {
	id := IDOf(c.Model, c.Number)
	v, err := Versions.Restore(ctx, tx, id)
	s.behind(ctx, tx, &v)
	if err != nil || v.Purge.Equal(never) {
		return &v, err
	}
	v, err = Versions.Update(ctx, tx, id, func(v *Version) error {
		if !tx.Now().Before(v.Purge) {
			return errPurged(v)
		}
		if v.Stage.needsMembers() && !c.back {
			if err := s.membersServe(v); err != nil {
				return err
			}
		}
		v.Purge = never
		if c.by != nil {
			v.again(c.by)
		}
		v.Record(Restored(v.changed()))
		return nil
	})
	return &v, err
}

const codeGone = "version_gone"

func errPurged(v *Version) error {
	return fault.New(fault.Gone, "version %d of model %q was deleted, and its time to be restored is over: register its files again, which gives them the same number", v.Number, v.Model).WithCode(codeGone)
}

func find(ctx context.Context, from repo.Reading, q Find) (*Version, error) {
	v, err := Versions.Get(ctx, from, IDOf(q.Model, q.Number))
	return &v, err
}

func findNumber(ctx context.Context, from repo.Reading, q numbered) (int64, error) {
	l, err := Ledgers.Get(ctx, from, ledgerID(q.model))
	if errors.Is(err, repo.ErrNotFound) {
		return 0, nil
	}
	return l.Numbers[q.digest], err
}

func findGone(ctx context.Context, from repo.Reading, q gone) (*Version, error) {
	page, err := Versions.Find(ctx, from, spec.Query[Version]{Where: selfField.Eq(IDOf(q.model, q.number)), Deleted: spec.WithDeleted, Limit: 1})
	if err == nil && len(page.Items) == 0 {
		err = repo.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &page.Items[0], nil
}

func list(ctx context.Context, from repo.Reading, q List) (spec.Page[Version], error) {
	rules := []spec.Spec[Version]{placeField.StartsWith(q.Model + "/")}
	if q.Stage != "" {
		rules = append(rules, stageField.Eq(q.Stage))
	}
	if q.Digest != "" {
		rules = append(rules, digestField.Eq(q.Digest))
	}
	if q.SHA256 != "" {
		rules = append(rules, sha256Field.Eq(q.SHA256))
	}
	if !q.From.IsZero() {
		rules = append(rules, createdField.Ge(q.From))
	}
	if !q.To.IsZero() {
		rules = append(rules, createdField.Lt(q.To))
	}
	query := spec.Query[Version]{Where: spec.And(rules...), Order: placeField.Desc(), Limit: q.Limit, After: q.After}
	if q.Deleted {
		query.Deleted = spec.OnlyDeleted
	}
	page, err := Versions.Find(ctx, from, query)
	if err != nil || q.Label[0] == "" {
		return page, err
	}
	kept := page.Items[:0]
	for _, v := range page.Items {
		if value, ok := v.Labels[q.Label[0]]; ok && value == q.Label[1] {
			kept = append(kept, v)
		}
	}
	page.Items = kept
	return page, nil
}
