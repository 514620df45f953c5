package export

import (
	"context"
	"strings"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of exports. What is exported needs the dataset's beside them.
const (
	Read  access.Permission = "exports:read"
	Write access.Permission = "exports:write"
)

// Permissions declares them.
func Permissions() []access.Declaration {
	roles := []string{access.Operator, access.MLEngineer, access.Analyst}
	return []access.Declaration{
		{Permission: Read, About: "see exports and download their files, given the permission to read what is in them", Roles: roles},
		{Permission: Write, About: "export what one may read", Roles: roles},
	}
}

// Create asks for an export.
type Create struct {
	cqrs.Returns[*Export]
	ID       ID // of one that is made once however often that is asked for; a new one where it is empty
	Name     string
	Request  Request
	Schedule string // that it is made for, if any
}

// CommandName implements cqrs.Command.
func (Create) CommandName() string { return "exports.create" }

// Cancel ends an export that is not wanted any more.
type Cancel struct {
	cqrs.Returns[*Export]
	ID ID
}

// CommandName implements cqrs.Command.
func (Cancel) CommandName() string { return "exports.cancel" }

// Target implements cqrs.Targeted.
func (c Cancel) Target() (kind, id string) { return Exports.Name, string(c.ID) }

// Delete drops an export and its files.
type Delete struct {
	cqrs.Returns[*Export]
	ID ID
}

// CommandName implements cqrs.Command.
func (Delete) CommandName() string { return "exports.delete" }

// Target implements cqrs.Targeted.
func (c Delete) Target() (kind, id string) { return Exports.Name, string(c.ID) }

// Download asks for the files of an export. It is a command so that the audit log
// has every one.
type Download struct {
	cqrs.Returns[*Export]
	ID ID
}

// CommandName implements cqrs.Command.
func (Download) CommandName() string { return "exports.download" }

// Target implements cqrs.Targeted.
func (c Download) Target() (kind, id string) { return Exports.Name, string(c.ID) }

// Find asks for one export.
type Find struct {
	cqrs.Returns[*Export]
	ID ID
}

// QueryName implements cqrs.Query.
func (Find) QueryName() string { return "exports.read" }

// List asks for a page of exports; an empty status selects all.
type List struct {
	cqrs.Returns[spec.Page[Export]]
	Status Status
	Query  spec.Query[Export]
}

// QueryName implements cqrs.Query.
func (List) QueryName() string { return "exports.list" }

// Preview asks for the first rows that an export would have.
type Preview struct {
	cqrs.Returns[*Sample]
	Request Request
}

// QueryName implements cqrs.Query.
func (Preview) QueryName() string { return "exports.preview" }

// register adds the commands and queries to the bus.
func (s *Service) register(b *cqrs.Bus) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c Create) (*Export, error) {
		if _, err := s.allowed(ctx, &c.Request); err != nil {
			return nil, err
		}
		e := &Export{Name: c.Name, Schedule: c.Schedule, Request: c.Request, Progress: Progress{Total: -1}}
		if e.ID = c.ID; e.ID == "" {
			e.ID = repo.NewID[ID](tx, Prefix)
		}
		e.move(Queued, tx.Now().Add(notice), tx.Now().Add(maxAge))
		if err := Exports.Add(ctx, tx, e); err != nil {
			return nil, err
		}
		return e, announce(tx, e.ID)
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c Cancel) (*Export, error) {
		e, err := Exports.Update(ctx, tx, c.ID, func(e *Export) error { e.Cancel(tx.Now(), s.cfg.Keep); return nil })
		return &e, err
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c Delete) (*Export, error) {
		e, err := Exports.Get(ctx, tx, c.ID)
		if err != nil {
			return nil, err
		}
		return &e, Exports.Erase(ctx, tx, c.ID)
	})
	cqrs.Handle(b, Read, func(ctx context.Context, tx *repo.Tx, c Download) (*Export, error) {
		e, err := Exports.Get(ctx, tx, c.ID)
		if err != nil {
			return nil, err
		}
		if err := s.mayRead(ctx, e.Request.Dataset); err != nil {
			return nil, err
		}
		return &e, e.Usable(tx.Now())
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q Find) (*Export, error) {
		e, err := Exports.Get(ctx, from, q.ID)
		return &e, err
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q List) (spec.Page[Export], error) {
		if q.Status != "" {
			q.Query.Where = status.Eq(q.Status)
		}
		return Exports.Find(ctx, from, q.Query)
	})
	cqrs.HandleQuery(b, Write, func(ctx context.Context, from repo.Reading, q Preview) (*Sample, error) {
		p, err := s.allowed(ctx, &q.Request)
		if err != nil {
			return nil, err
		}
		return s.sample(ctx, from.Tenant(), p)
	})
}

// Allowed says why the caller may not have what a request asks for, or that it cannot
// be; nil where it may be exported.
func (s *Service) Allowed(ctx context.Context, r Request) error {
	_, err := s.allowed(ctx, &r)
	return err
}

// allowed returns the plan of a request whose principal may see what it is of. It
// sets the time of the snapshot where the request has none.
func (s *Service) allowed(ctx context.Context, r *Request) (*plan, error) {
	now := s.store.Now()
	switch {
	case r.AsOf.IsZero():
		r.AsOf = now.Truncate(time.Millisecond) // as it is shown, so that it can be asked for again
	case r.AsOf.After(now):
		return nil, fault.New(fault.Invalid, "as_of is in the future: what there will be then cannot be exported now").WithCode("range_invalid")
	}
	p, err := r.plan(s.datasets)
	if err == nil {
		err = s.mayRead(ctx, r.Dataset)
	}
	return p, err
}

// mayRead says why the caller may not see a dataset's rows, nil where that is so.
func (s *Service) mayRead(ctx context.Context, dataset string) error {
	d := s.datasets[dataset]
	if d == nil {
		return fault.New(fault.Conflict, "the dataset %s is not known to this server", dataset).WithCode("dataset_unknown")
	}
	if p, ok := access.From(ctx); !ok || !p.Can(d.Permission) {
		return fault.New(fault.PermissionDenied, "exports of %s need the permission %s, too", d.Name, d.Permission)
	}
	return nil
}

// Create accepts an export, if its tenant has room for one more.
func (s *Service) Create(ctx context.Context, c Create) (*Export, error) {
	if p, ok := access.From(ctx); ok && p.Can(Write) { // else the bus refuses
		if err := s.room(ctx, p.Tenant); err != nil {
			return nil, err
		}
	}
	return cqrs.Send(ctx, s.bus, c)
}

// room returns why the tenant may not have another export, nil where it may.
// Requests at the same moment may exceed the limit by as many as they are.
func (s *Service) room(ctx context.Context, tenant string) error {
	all, active := 0, 0
	for e, err := range Exports.All(ctx, s.store.Read(repo.Scope{Tenant: tenant}), spec.Query[Export]{}) {
		if err != nil {
			return err
		}
		if all++; !e.Final() {
			active++
		}
	}
	switch {
	case active >= s.cfg.MaxActive:
		return fault.New(fault.Exhausted, "the tenant has %d exports under way, which is as many as it may: wait for one to end, or cancel one", active).WithCode("export_quota").WithRetryAfter(10 * time.Second)
	case all >= s.cfg.MaxExports:
		return fault.New(fault.Exhausted, "the tenant has %d exports, which is as many as it may: delete some that are not needed", all).WithCode("export_quota").WithRetryAfter(time.Minute)
	}
	return nil
}

// Delete drops an export and its files. A worker that is at it is told that it is
// gone.
func (s *Service) Delete(ctx context.Context, id ID) error {
	e, err := cqrs.Send(ctx, s.bus, Delete{ID: id})
	if err == nil {
		s.drop(context.WithoutCancel(ctx), e.Parts)
	}
	return err
}

// Folder is where the objects of exports are, below their tenants'.
const Folder = "exports"

// Owned says whether an export names an object, for blob.SweepOrphans.
func Owned(ctx context.Context, store *repo.Store, tenant, key string) (bool, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, tenant+"/"+Folder+"/"), "/")
	e, err := Exports.Get(ctx, store.Read(repo.Scope{Tenant: tenant}), ID(id))
	if fault.Is(err, fault.NotFound) || fault.CodeOf(err) == "invalid_id" {
		return false, nil
	}
	for _, p := range e.Parts {
		if p.Object == key {
			return true, err
		}
	}
	return err != nil, err
}
