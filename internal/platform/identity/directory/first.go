package directory

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/repo"
)

// firstKey is the id of the key that the first start makes.
const firstKey KeyID = "key_00000000000000000000000000000001"

// Count implements identity.Bootstrap's question: 1 where the first start was
// before, be its key revoked by now.
func (d *Directory) Count(ctx context.Context, tenant string) (int, error) {
	_, err := d.store.Driver().Get(ctx, repo.Key{Tenant: tenant, Kind: Keys.Name, ID: string(firstKey)})
	if errors.Is(err, repo.ErrNotFound) {
		return 0, nil
	}
	return 1, err
}

// CreateFirst stores the first key, with a role that may do everything. It is
// fault.Conflict where one was made before, be it revoked by now.
func (d *Directory) CreateFirst(ctx context.Context, tenant, role string, made apikey.Key) error {
	if err := d.EnsureTenant(ctx, TenantID(tenant), tenant); err != nil {
		return err
	}
	k := Key{Name: "bootstrap", Roles: []string{role}}
	k.ID = firstKey
	if err := k.Issue(made, d.store.Now(), time.Time{}); err != nil {
		return err
	}
	if err := d.Announce(ctx, tenant, k.ID, made, time.Time{}); err != nil {
		return err
	}
	return d.store.Do(ctx, repo.Scope{Tenant: tenant, Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error { return Keys.Add(ctx, tx, &k) })
}
