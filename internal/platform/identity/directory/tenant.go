// Package directory has who there is: tenants, their API keys and their users,
// kept in the store.
//
// A key is found by the hash of its secret through an index that belongs to the
// platform, since who sends a key does not say whose it is. The index is written
// before the key: an index entry without a key opens nothing, and a key is never
// without its entry, on stores that change one aggregate at a time as well.
//
// What was decided: a key that is revoked stays so; a tenant that is restored
// has its keys again; a session is of its user as of the sign-in, and ends with
// whatever happens to the user. Who may take rights away need not hold them,
// who hands them out must, see Grant and Command.
//
// Known limits: processes learn of changes that others make within 2 s; what a
// key has issued outlives it; attempts to sign in are counted by each process.
package directory

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// TenantID names a tenant in the way that access.CheckTenant demands.
type TenantID string

// Tenant is a customer, or a part of an organisation, whose things nobody else
// sees.
type Tenant struct {
	aggregate.Root[TenantID]
	Name string `json:"name"` // for people
	// Suspended tenants are refused at the door; nothing of theirs is lost.
	Suspended bool `json:"suspended,omitempty"`
}

// Tenants keeps them; they belong to the platform.
var Tenants = repo.Kind[TenantID, Tenant]{
	Name: "tenants", Root: func(t *Tenant) *aggregate.Root[TenantID] { return &t.Root },
	Columns: []spec.Column[Tenant]{
		spec.TextField("name", func(t *Tenant) string { return t.Name }),
		spec.BoolField("suspended", func(t *Tenant) bool { return t.Suspended }),
	},
}

// TenantChanged says that a tenant was made, renamed, suspended or let in again.
type TenantChanged struct {
	Suspended bool `json:"suspended"`
}

// EventType implements aggregate.Event.
func (TenantChanged) EventType() string { return "tenant.changed" }

// NewTenant returns a tenant, or fault.Invalid for an id that cannot be one.
func NewTenant(id TenantID, name string) (*Tenant, error) {
	if err := access.CheckTenant(string(id)); err != nil {
		return nil, err
	}
	t := &Tenant{Name: name}
	t.ID = id
	t.Record(TenantChanged{})
	return t, nil
}

// Set renames the tenant, and shuts it out or lets it in again.
func (t *Tenant) Set(name string, suspended bool) {
	if t.Name != name || t.Suspended != suspended {
		t.Name, t.Suspended = name, suspended
		t.Record(TenantChanged{suspended})
	}
}

// platform is the scope of what belongs to no tenant, for an actor.
func platform(actor string) repo.Scope { return repo.Scope{Actor: actor} }

// Directory answers questions about who there is.
type Directory struct {
	store     *repo.Store
	pseudonym []byte
	attempts  attempts
	admitted  admitted
}

// New returns the directory in a store, which must have been migrated with
// Schemas. The pseudonym is the secret that users' ids are made with: it never
// changes, and is the same for all processes. Call it before the store is used.
func New(store *repo.Store, pseudonym []byte) *Directory {
	d := &Directory{store: store, pseudonym: pseudonym}
	store.Watch(d.admitted.forget)
	return d
}

// Reading is what a tenant's keys and users are read from.
func (d *Directory) Reading(tenant string) repo.Reading {
	return d.store.Read(repo.Scope{Tenant: tenant})
}

// Schemas is what the store's migration has to know.
func Schemas() []*repo.Schema {
	return []*repo.Schema{Tenants.Schema(), Keys.Schema(), keyIndex.Schema(), Users.Schema()}
}

// active refuses tenants that are not there or are suspended, as if they were
// not there.
func (d *Directory) active(ctx context.Context, id string) error {
	t, err := Tenants.Get(ctx, d.store.Read(platform("")), TenantID(id))
	if err == nil && t.Suspended {
		return repo.ErrNotFound
	}
	return err
}

// EnsureTenant makes a tenant unless it is there.
func (d *Directory) EnsureTenant(ctx context.Context, id TenantID, name string) error {
	err := d.store.Do(ctx, platform("system"), func(ctx context.Context, tx *repo.Tx) error {
		t, err := NewTenant(id, name)
		if err != nil {
			return err
		}
		return Tenants.Add(ctx, tx, t)
	})
	if errors.Is(err, repo.ErrExists) {
		return nil
	}
	return err
}

// ending says whether something that ends, or does not, has ended.
func ending(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }
