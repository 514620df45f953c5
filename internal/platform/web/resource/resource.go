// Package resource makes a resource of the native API out of a kind of
// aggregates: create, read, list, change, delete and restore, with permissions,
// audit, hooks, pages, conditional requests, idempotency and documentation.
//
//	resource.Resource[FlagID, Flag, NewFlag, FlagChange, FlagView]{
//		Kind: Flags, Singular: "feature_flag", Prefix: "flg", Read: "feature_flags:read", Write: "feature_flags:write",
//		New: newFlag, Change: changeFlag, View: viewFlag,
//	}.Register(api, bus)
//
// Every operation is a command or a query of the bus, so the same rules hold for
// whoever comes another way. Known limits: filters are joined by "and", and an
// order has one field.
package resource

import (
	"context"
	"strings"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/web/api"
)

// Resource describes a resource of aggregates A with ids ID. C is what clients
// send to make one, U what they send to change one, and V what they are shown;
// all three are types of the API, and never the aggregate itself.
type Resource[ID ~string, A, C, U, V any] struct {
	Kind        repo.Kind[ID, A]
	Singular    string // "api_key"; the plural is Kind.Name
	Description string // Markdown, for the documentation
	Prefix      string // of ids: "key"; empty where New chooses them

	Read, Write access.Permission
	// Platform says that the aggregates belong to the platform, not to a tenant.
	Platform bool
	// Secret says that what is shown at the creation holds a secret that is never
	// shown again.
	Secret bool

	// New makes the aggregate of what a client sent. It sets the id where Prefix
	// is empty. It may run again, as every unit of work. Nil offers no creation,
	// and no deletion either: clients only read.
	New func(ctx context.Context, tx *repo.Tx, in *C) (*A, error)
	// Change changes the aggregate to what a client sent; nil offers no change.
	Change func(ctx context.Context, tx *repo.Tx, a *A, in *U) error
	// View is what clients are shown.
	View func(a *A, meta Meta) V

	Hooks[C, U, A]
}

// Hooks are called around what clients do. Those that come before may refuse or
// complete the input; those that come after see what is committed, and cannot
// fail any more: what must happen is an event's consumer. Every one may be nil.
type Hooks[C, U, A any] struct {
	BeforeCreate func(ctx context.Context, in *C) error
	AfterCreate  func(ctx context.Context, a *A)
	BeforeChange func(ctx context.Context, in *U) error
	AfterChange  func(ctx context.Context, a *A)
	BeforeDelete func(ctx context.Context, id string) error
	AfterDelete  func(ctx context.Context, id string)
}

// Meta is what is shown of every aggregate: embed it in V, first.
type Meta struct {
	ID        string    `json:"id" readOnly:"true" doc:"Identifies it."`
	Object    string    `json:"object" readOnly:"true" doc:"What it is."`
	Version   int64     `json:"version" readOnly:"true" doc:"Grows with every change; the ETag."`
	CreatedAt api.Time  `json:"created_at" readOnly:"true"`
	CreatedBy string    `json:"created_by" readOnly:"true" doc:"The principal that made it."`
	UpdatedAt api.Time  `json:"updated_at" readOnly:"true"`
	UpdatedBy string    `json:"updated_by" readOnly:"true" doc:"The principal that changed it last."`
	DeletedAt *api.Time `json:"deleted_at,omitempty" readOnly:"true" doc:"When it was deleted; it can be restored."`
}

// MetaOf is what is shown of an aggregate of any resource.
func MetaOf[ID ~string](object string, root *aggregate.Root[ID]) Meta {
	m := Meta{ID: string(root.ID), Object: object, Version: root.Version, CreatedAt: api.Time{Time: root.CreatedAt}, CreatedBy: root.CreatedBy,
		UpdatedAt: api.Time{Time: root.UpdatedAt}, UpdatedBy: root.UpdatedBy}
	if root.Deleted() {
		m.DeletedAt = &api.Time{Time: root.DeletedAt}
	}
	return m
}

func (r *Resource[ID, A, C, U, V]) view(a *A) V { return r.View(a, MetaOf(r.Singular, r.Kind.Root(a))) }

// Register adds the resource's commands and queries to the bus, and its
// operations to the API. Call it once.
func (r Resource[ID, A, C, U, V]) Register(a *api.API, b *cqrs.Bus) {
	res := &r
	res.handle(b)
	res.operations(a, b)
}

// path is where the resource is, with hyphens as is usual in addresses.
func (r *Resource[ID, A, C, U, V]) path() string {
	return "/" + strings.ReplaceAll(r.Kind.Name, "_", "-")
}

// command is anything that changes one aggregate. Its handler is chosen by name.
type command[ID ~string, A, In any] struct {
	cqrs.Returns[*A]
	name, kind string
	id         ID
	in         *In
	expect     expectation
	chosen     *ID // where the handler puts the id of what it makes
}

// expectation is what If-Match said.
type expectation struct {
	version  int64
	anything bool
}

func (e expectation) check(version func(int64) error) error {
	if e.anything {
		return nil
	}
	return version(e.version)
}

func (c command[ID, A, In]) CommandName() string         { return c.name }
func (c command[ID, A, In]) Target() (kind, id string)   { return c.kind, string(c.id) }
func (q one[ID, A]) QueryName() string                   { return q.name }
func (q many[A]) QueryName() string                      { return q.name }
func (r *Resource[ID, A, C, U, V]) name(v string) string { return r.Kind.Name + "." + v }

// one asks for an aggregate, many for a page of them.
type one[ID ~string, A any] struct {
	cqrs.Returns[*A]
	name string
	id   ID
}

type many[A any] struct {
	cqrs.Returns[spec.Page[A]]
	name  string
	query spec.Query[A]
}

// none is the input of what needs none.
type none struct{}

func (r *Resource[ID, A, C, U, V]) handle(b *cqrs.Bus) {
	var opts []cqrs.Option
	if r.Platform {
		opts = append(opts, cqrs.Platform())
	}
	if r.New != nil {
		cqrs.HandleAs(b, r.name("create"), r.Write, r.create, opts...)
		cqrs.HandleAs(b, r.name("delete"), r.Write, r.remove, opts...)
		cqrs.HandleAs(b, r.name("restore"), r.Write, r.restore, opts...)
	}
	if r.Change != nil {
		cqrs.HandleAs(b, r.name("change"), r.Write, r.change, opts...)
	}
	cqrs.HandleQueryAs(b, r.name("read"), r.Read, func(ctx context.Context, from repo.Reading, q one[ID, A]) (*A, error) {
		a, err := r.Kind.Get(ctx, from, q.id)
		return &a, err
	}, opts...)
	cqrs.HandleQueryAs(b, r.name("list"), r.Read, func(ctx context.Context, from repo.Reading, q many[A]) (spec.Page[A], error) {
		return r.Kind.Find(ctx, from, q.query)
	}, opts...)
}

func (r *Resource[ID, A, C, U, V]) create(ctx context.Context, tx *repo.Tx, c command[ID, A, C]) (*A, error) {
	var id ID
	if r.Prefix != "" {
		id = repo.NewID[ID](tx, r.Prefix) // the operation's first id: the same if it is repeated
	}
	a, err := r.New(ctx, tx, c.in)
	if err != nil {
		return nil, err
	}
	if id != "" {
		r.Kind.Root(a).ID = id
	}
	*c.chosen = r.Kind.Root(a).ID
	return a, r.Kind.Add(ctx, tx, a)
}

func (r *Resource[ID, A, C, U, V]) change(ctx context.Context, tx *repo.Tx, c command[ID, A, U]) (*A, error) {
	a, err := r.Kind.Update(ctx, tx, c.id, func(a *A) error {
		if err := c.expect.check(r.Kind.Root(a).Expect); err != nil {
			return err
		}
		return r.Change(ctx, tx, a, c.in)
	})
	return &a, err
}

func (r *Resource[ID, A, C, U, V]) remove(ctx context.Context, tx *repo.Tx, c command[ID, A, none]) (*A, error) {
	a, err := r.Kind.Get(ctx, tx, c.id)
	if err != nil {
		return nil, err
	}
	if err := c.expect.check(r.Kind.Root(&a).Expect); err != nil {
		return nil, err
	}
	return &a, r.Kind.Delete(ctx, tx, c.id, r.event("deleted"))
}

func (r *Resource[ID, A, C, U, V]) restore(ctx context.Context, tx *repo.Tx, c command[ID, A, none]) (*A, error) {
	a, err := r.Kind.Restore(ctx, tx, c.id, r.event("restored"))
	return &a, err
}

// happened is the event of what every resource has in common; what an aggregate
// is made for it records itself.
type happened struct {
	name string
}

// EventType returns the event's name.
func (h happened) EventType() string { return h.name }

func (r *Resource[ID, A, C, U, V]) event(verb string) aggregate.Event {
	return happened{r.Singular + "." + verb}
}
