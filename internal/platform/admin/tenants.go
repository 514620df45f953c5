package admin

import (
	"context"

	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/resource"
)

// NewTenant is what makes a tenant.
type NewTenant struct {
	ID   string `json:"id" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9_-]*$" doc:"Names the tenant for ever: lower case letters, digits, _ and -."`
	Name string `json:"name" minLength:"1" maxLength:"200" doc:"For people."`
}

// TenantChange is what changes one; what is left out stays.
type TenantChange struct {
	Name      *string `json:"name,omitempty" minLength:"1" maxLength:"200"`
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
		Description: "A tenant is a customer, or a part of an organisation, whose things nobody else sees.",
		New: func(_ context.Context, _ *repo.Tx, in *NewTenant) (*directory.Tenant, error) {
			return directory.NewTenant(directory.TenantID(in.ID), in.Name)
		},
		Change: func(_ context.Context, _ *repo.Tx, t *directory.Tenant, in *TenantChange) error {
			if in.Name != nil {
				t.Name = *in.Name
			}
			if in.Suspended != nil {
				t.Suspend(*in.Suspended)
			}
			return nil
		},
		View: func(t *directory.Tenant, m resource.Meta) TenantView { return TenantView{m, t.Name, t.Suspended} },
	}
}
