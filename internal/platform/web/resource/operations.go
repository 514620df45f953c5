package resource

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/web/api"
)

type createIn[C any] struct{ Body C }

type readIn struct {
	ID string `path:"id" maxLength:"255" doc:"Identifies it."`
}

type changeIn[U any] struct {
	ID string `path:"id" maxLength:"255" doc:"Identifies it."`
	api.IfMatch
	Body U
}

type deleteIn struct {
	ID string `path:"id" maxLength:"255" doc:"Identifies it."`
	api.IfMatch
}

type listIn struct {
	api.PageQuery
	Filter  []string `query:"filter,explode" maxItems:"20" doc:"Conditions, all of which hold: field:operator:value, with operators eq, lt, le, gt, ge, in (values between |) and prefix."`
	Order   string   `query:"order" maxLength:"64" doc:"The field to order by, with - before it for the greatest first. Without it the oldest comes first."`
	Deleted string   `query:"deleted" enum:"exclude,include,only" default:"exclude" doc:"Whether what is deleted, and can be restored, is listed."`
}

type out[V any] struct {
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     V
}

type listOut[V any] struct{ Body api.Page[V] }

// operations adds what clients may do to the API.
func (r *Resource[ID, A, C, U, V]) operations(a *api.API, b *cqrs.Bus) {
	op := func(id, method, path, summary string) api.Operation {
		o := api.Operation{ID: id, Method: method, Path: r.path() + path, Summary: summary, Description: r.Description, Tags: []string{r.Kind.Name}, Permission: r.Write}
		if method == http.MethodGet {
			o.Permission = r.Read
		}
		return o
	}
	what := strings.ReplaceAll(r.Singular, "_", " ")
	id := strings.ReplaceAll(r.Singular, "_", "-")
	ids := strings.ReplaceAll(r.Kind.Name, "_", "-")

	api.Register(a, op("list-"+ids, http.MethodGet, "", "List: "+what), func(ctx context.Context, in *listIn) (*listOut[V], error) { return r.doList(ctx, b, in) })
	api.Register(a, op("get-"+id, http.MethodGet, "/{id}", "Read: "+what), func(ctx context.Context, in *readIn) (*out[V], error) {
		found, err := cqrs.Ask(ctx, b, one[ID, A]{name: r.name("read"), id: ID(in.ID)})
		return r.out(found, err)
	})
	if r.Change != nil {
		change := op("change-"+id, http.MethodPatch, "/{id}", "Change: "+what)
		change.Idempotency = api.KeyOptional
		api.Register(a, change, func(ctx context.Context, in *changeIn[U]) (*out[V], error) { return r.doChange(ctx, b, in) })
	}
	if r.New == nil {
		return
	}
	create := op("create-"+id, http.MethodPost, "", "Create: "+what)
	create.Status, create.Idempotency, create.Secret = http.StatusCreated, api.KeyOptional, r.Secret
	api.Register(a, create, func(ctx context.Context, in *createIn[C]) (*out[V], error) { return r.doCreate(ctx, b, a.Prefix(), in) })
	remove := op("delete-"+id, http.MethodDelete, "/{id}", "Delete: "+what)
	remove.Status = http.StatusNoContent
	api.Register(a, remove, func(ctx context.Context, in *deleteIn) (*struct{}, error) { return nil, r.doDelete(ctx, b, in) })
	api.Register(a, op("restore-"+id, http.MethodPost, "/{id}/restore", "Restore: "+what), func(ctx context.Context, in *readIn) (*out[V], error) {
		restored, err := cqrs.Send(ctx, b, command[ID, A, none]{name: r.name("restore"), kind: r.Kind.Name, id: ID(in.ID)})
		return r.out(restored, err)
	})
}

func (r *Resource[ID, A, C, U, V]) out(a *A, err error) (*out[V], error) {
	if err != nil {
		return nil, err
	}
	return &out[V]{ETag: api.ETag(r.Kind.Root(a).Version), Body: r.view(a)}, nil
}

func (r *Resource[ID, A, C, U, V]) doCreate(ctx context.Context, b *cqrs.Bus, prefix string, in *createIn[C]) (*out[V], error) {
	if r.BeforeCreate != nil {
		if err := r.BeforeCreate(ctx, &in.Body); err != nil {
			return nil, err
		}
	}
	var id ID
	made, err := cqrs.Send(ctx, b, command[ID, A, C]{name: r.name("create"), kind: r.Kind.Name, in: &in.Body, chosen: &id})
	if errors.Is(err, repo.ErrProcessed) && id != "" && !r.Secret {
		// The operation made it when it ran before, and its answer was lost. It
		// chooses the same id again. A secret is lost for good.
		made, err = cqrs.Ask(ctx, b, one[ID, A]{name: r.name("read"), id: id})
	} else if err == nil && r.AfterCreate != nil {
		r.AfterCreate(ctx, made)
	}
	o, err := r.out(made, err)
	if err == nil {
		o.Location = prefix + r.path() + "/" + string(r.Kind.Root(made).ID)
	}
	return o, err
}

func (r *Resource[ID, A, C, U, V]) doList(ctx context.Context, b *cqrs.Bus, in *listIn) (*listOut[V], error) {
	query, err := r.query(in)
	if err != nil {
		return nil, err
	}
	page, err := cqrs.Ask(ctx, b, many[A]{name: r.name("list"), query: query})
	if err != nil {
		return nil, err
	}
	views := make([]V, len(page.Items))
	for i := range page.Items {
		views[i] = r.view(&page.Items[i])
	}
	return &listOut[V]{api.NewPage(views, page.Next)}, nil
}

func (r *Resource[ID, A, C, U, V]) query(in *listIn) (spec.Query[A], error) {
	q := spec.Query[A]{Limit: in.Limit, After: in.Cursor,
		Deleted: map[string]spec.Deleted{"include": spec.WithDeleted, "only": spec.OnlyDeleted}[in.Deleted]}
	field, descending := strings.CutPrefix(in.Order, "-")
	q.Order = spec.Order[A]{Field: field, Descending: descending}
	var err error
	q.Where, err = parseFilters(r.Kind.Columns, in.Filter)
	return q, err
}

func (r *Resource[ID, A, C, U, V]) doChange(ctx context.Context, b *cqrs.Bus, in *changeIn[U]) (*out[V], error) {
	expect, err := expected(in.IfMatch)
	if err != nil {
		return nil, err
	}
	if r.BeforeChange != nil {
		if err := r.BeforeChange(ctx, &in.Body); err != nil {
			return nil, err
		}
	}
	changed, err := cqrs.Send(ctx, b, command[ID, A, U]{name: r.name("change"), kind: r.Kind.Name, id: ID(in.ID), in: &in.Body, expect: expect})
	if errors.Is(err, repo.ErrProcessed) {
		changed, err = cqrs.Ask(ctx, b, one[ID, A]{name: r.name("read"), id: ID(in.ID)})
	} else if err == nil && r.AfterChange != nil {
		r.AfterChange(ctx, changed)
	}
	return r.out(changed, err)
}

func (r *Resource[ID, A, C, U, V]) doDelete(ctx context.Context, b *cqrs.Bus, in *deleteIn) error {
	expect, err := expected(in.IfMatch)
	if err != nil {
		return err
	}
	if r.BeforeDelete != nil {
		if err := r.BeforeDelete(ctx, in.ID); err != nil {
			return err
		}
	}
	_, err = cqrs.Send(ctx, b, command[ID, A, none]{name: r.name("delete"), kind: r.Kind.Name, id: ID(in.ID), expect: expect})
	if err == nil && r.AfterDelete != nil {
		r.AfterDelete(ctx, in.ID)
	}
	return err
}

func expected(m api.IfMatch) (e expectation, err error) {
	e.version, e.anything, err = m.Version()
	return e, err
}
