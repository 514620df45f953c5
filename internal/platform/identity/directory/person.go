package directory

import (
	"context"
	"errors"
	"strings"

	"sluice/internal/platform/repo"
)

// maxMakers is how many keys are followed from one to its maker.
const maxMakers = 32

// person returns who is behind a key: its user, or who was behind its maker. Keys
// that were made before that was kept are followed from maker to maker, also past
// those that were revoked. What the program itself has made is a person of its own.
func (d *Directory) person(ctx context.Context, k *Key) (string, error) {
	if k.Subject != "" {
		return string(k.Subject), nil
	}
	if k.Person != "" {
		return k.Person, nil
	}
	id, by := string(k.ID), k.CreatedBy
	for range maxMakers {
		if !strings.HasPrefix(by, "key_") {
			break
		}
		r, err := d.store.Driver().Get(ctx, repo.Key{Tenant: k.Tenant, Kind: Keys.Name, ID: by})
		if errors.Is(err, repo.ErrNotFound) {
			return by, nil
		}
		if err != nil {
			return "", err
		}
		id, by = by, r.CreatedBy
	}
	if by == "" || by == "system" {
		return id, nil
	}
	return by, nil
}
