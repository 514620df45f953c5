package evaluation

import (
	"context"
	"strings"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of evaluations. Predictions of the log need the permission to read what it
// keeps of them, too.
const (
	Read  access.Permission = "evaluations:read"
	Write access.Permission = "evaluations:write"
)

// Permissions declares them.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: Read, About: "see how answers of versions differ on what was asked before", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: Write, About: "have versions answer again what was asked before", Roles: []string{access.Operator, access.MLEngineer}},
	}
}

// start accepts an evaluation whose request is complete.
type start struct {
	cqrs.Returns[*Evaluation]
	evaluation Evaluation
}

// CommandName implements cqrs.Command.
func (start) CommandName() string { return "evaluations.start" }

// of names the evaluation that a command is about.
type of struct {
	cqrs.Returns[*Evaluation]
	ID ID
}

// Target implements cqrs.Targeted.
func (c of) Target() (kind, id string) { return Evaluations.Name, string(c.ID) }

type cancelling struct{ of }

// CommandName implements cqrs.Command.
func (cancelling) CommandName() string { return "evaluations.cancel" }

type deleting struct{ of }

// CommandName implements cqrs.Command.
func (deleting) CommandName() string { return "evaluations.delete" }

// downloading asks for the differences. It is a command so that the audit log has every one.
type downloading struct{ of }

// CommandName implements cqrs.Command.
func (downloading) CommandName() string { return "evaluations.download" }

// find asks for one evaluation.
type find struct {
	cqrs.Returns[*Evaluation]
	id ID
}

// QueryName implements cqrs.Query.
func (find) QueryName() string { return "evaluations.read" }

// List asks for a page of evaluations; what is empty selects all.
type List struct {
	cqrs.Returns[spec.Page[Evaluation]]
	Status Status
	Model  string
	Limit  int
	After  string
	Newest bool // comes first, and else the oldest
}

// QueryName implements cqrs.Query.
func (List) QueryName() string { return "evaluations.list" }

// register adds the commands and queries to the bus.
func (s *Service) register(b *cqrs.Bus) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c start) (*Evaluation, error) {
		e := c.evaluation
		e.move(Queued, tx.Now().Add(notice), tx.Now().Add(maxAge))
		if err := Evaluations.Add(ctx, tx, &e); err != nil {
			return nil, err
		}
		return &e, announce(tx, e.ID)
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c cancelling) (*Evaluation, error) {
		e, err := Evaluations.Update(ctx, tx, c.ID, func(e *Evaluation) error { e.Cancel(tx.Now(), s.cfg.Keep); return nil })
		return &e, err
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c deleting) (*Evaluation, error) {
		e, err := Evaluations.Get(ctx, tx, c.ID)
		if err != nil {
			return nil, err
		}
		return &e, Evaluations.Erase(ctx, tx, c.ID)
	})
	cqrs.Handle(b, Read, func(ctx context.Context, tx *repo.Tx, c downloading) (*Evaluation, error) {
		e, err := Evaluations.Get(ctx, tx, c.ID)
		if err != nil {
			return nil, err
		}
		if err := s.MayRead(ctx, &e.Request); err != nil {
			return nil, err
		}
		return &e, e.Usable()
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q find) (*Evaluation, error) {
		e, err := Evaluations.Get(ctx, from, q.id)
		return &e, err
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q List) (spec.Page[Evaluation], error) {
		query := spec.Query[Evaluation]{Order: spec.Order[Evaluation]{Descending: q.Newest}, Limit: q.Limit, After: q.After}
		switch {
		case q.Status != "" && q.Model != "":
			query.Where = spec.And(ofStatus.Eq(q.Status), ofModel.Eq(q.Model))
		case q.Status != "":
			query.Where = ofStatus.Eq(q.Status)
		case q.Model != "":
			query.Where = ofModel.Eq(q.Model)
		}
		return Evaluations.Find(ctx, from, query)
	})
}

// MayRead says why the caller may not see what is asked and answered, nil where that is so.
func (s *Service) MayRead(ctx context.Context, r *Request) error {
	if r.Logged == nil {
		return nil
	}
	if p, ok := access.From(ctx); !ok || !p.Can(s.cfg.Content) {
		return fault.New(fault.PermissionDenied, "predictions of the log are asked again by whoever may read what it keeps of them: that needs the permission %s, too", s.cfg.Content)
	}
	return nil
}

// Folder is where the objects of evaluations are, below their tenants'.
const Folder = "evaluations"

// Owned says whether an evaluation names an object, for blob.SweepOrphans.
func Owned(ctx context.Context, store *repo.Store, tenant, key string) (bool, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, tenant+"/"+Folder+"/"), "/")
	e, err := Evaluations.Get(ctx, store.Read(repo.Scope{Tenant: tenant}), ID(id))
	if fault.Is(err, fault.NotFound) || fault.CodeOf(err) == "invalid_id" {
		return false, nil
	}
	for _, o := range e.objects() {
		if o == key {
			return true, err
		}
	}
	return err != nil, err
}

// objects are those that the evaluation names.
func (e *Evaluation) objects() []string {
	var all []string
	if f := e.Request.File; f != nil {
		all = append(all, f.Object)
	}
	for _, p := range e.Done.Diff.Parts {
		all = append(all, p.Object)
	}
	return all
}
