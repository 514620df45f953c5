package admin

import (
	"context"
	"net/http"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// NewTenant is what makes a tenant.
type NewTenant struct {
	ID   string `json:"id" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9_-]*$" doc:"Names the tenant for ever: lower case letters, digits, _ and -."`
	Name string `json:"name" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$" doc:"For people, on one line."`
}

// TenantChange is what changes one; what is left out stays.
type TenantChange struct {
	Name      *string `json:"name,omitempty" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
	Suspended *bool   `json:"suspended,omitempty" doc:"A suspended tenant is refused at the door; nothing of its is lost."`
}

// TenantView is what is shown of one.
type TenantView struct {
	resource.Meta
	Name      string `json:"name"`
	Suspended bool   `json:"suspended"`
}

func tenants() resource.Resource[directory.TenantID, directory.Tenant, NewTenant, TenantChange, TenantView] {
	return resource.Resource[directory.TenantID, directory.Tenant, NewTenant, TenantChange, TenantView]{
		Kind: directory.Tenants, Singular: "tenant", Platform: true, Read: tenantsRead, Write: tenantsWrite,
		Description: "A tenant is a customer, or a part of an organisation, whose things nobody else sees. Where one is suspended or deleted, its keys, sessions and tokens are refused, and work again once it is let in or restored.",
		New: func(_ context.Context, _ *repo.Tx, in *NewTenant) (*directory.Tenant, error) {
			return directory.NewTenant(directory.TenantID(in.ID), in.Name)
		},
		Change: func(ctx context.Context, _ *repo.Tx, t *directory.Tenant, in *TenantChange) error {
			if or(in.Suspended, false) {
				if err := another(ctx, t.ID); err != nil {
					return err
				}
			}
			t.Set(or(in.Name, t.Name), or(in.Suspended, t.Suspended))
			return nil
		},
		View: func(t *directory.Tenant, m resource.Meta) TenantView { return TenantView{m, t.Name, t.Suspended} },
	}
}

// another refuses to shut out one's own tenant: nobody might be left to undo it.
func another(ctx context.Context, id directory.TenantID) error {
	if p, ok := access.From(ctx); ok && p.Tenant != string(id) {
		return nil
	}
	return fault.New(fault.Conflict, "this is your own tenant, and nobody might be left to let it in again: ask an administrator of the platform in another tenant").WithCode("own_tenant")
}

// notOwn is the rule for deletions.
func notOwn(ctx context.Context, _ *repo.Tx, id string) error {
	return another(ctx, directory.TenantID(id))
}

// issue gives a tenant a key from outside: a new one has nobody who could.
type issue struct {
	cqrs.Returns[*directory.Key]
	in *NewKey
}

func (issue) CommandName() string         { return "tenants.issue_key" }
func (c issue) Target() (kind, id string) { return directory.Keys.Name, string(c.in.id) }

// issuing adds the operation that makes a tenant's first key.
func (m Admin) issuing(a *api.API, b *cqrs.Bus) {
	cqrs.Handle(b, tenantsWrite, func(ctx context.Context, tx *repo.Tx, c issue) (*directory.Key, error) {
		k, err := m.newKey(ctx, tx, c.in)
		if err != nil {
			return nil, err
		}
		return k, directory.Keys.Add(ctx, tx, k)
	})
	op := api.Operation{ID: "create-tenant-api-key", Method: http.MethodPost, Path: "/tenants/{id}/api-keys", Summary: "Create: api key of a tenant", Tags: []string{directory.Tenants.Name},
		Description: "Issues an API key of another tenant, so that somebody there can issue all others. The tenant's audit log says who did it.",
		Permission:  tenantsWrite, Status: http.StatusCreated, Secret: true, Idempotency: api.KeyOptional}
	type out struct {
		ETag string `header:"ETag"`
		Body KeyView
	}
	api.Register(a, op, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body NewKey
	}) (*out, error) {
		ctx, err := m.within(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if err := m.prepare(ctx, &in.Body); err != nil {
			return nil, err
		}
		k, err := cqrs.Send(ctx, b, issue{in: &in.Body})
		if err != nil {
			return nil, err
		}
		return &out{api.ETag(k.Version), viewKey(k, resource.MetaOf("api_key", &k.Root))}, nil
	})
}

// within has the principal act in another tenant, which must be there. It may
// where it administers tenants and API keys.
func (m Admin) within(ctx context.Context, tenant string) (context.Context, error) {
	for _, needed := range []access.Permission{tenantsWrite, keysWrite} {
		if err := access.Check(ctx, needed); err != nil {
			return nil, err
		}
	}
	if err := m.Directory.Admit(ctx, tenant); err != nil {
		if fault.Is(err, fault.Unauthenticated) {
			err = repo.ErrNotFound // it is not the caller's own that is unknown
		}
		return nil, err
	}
	p, _ := access.From(ctx)
	acting := *p
	acting.Tenant = tenant
	return access.With(ctx, &acting), nil
}
