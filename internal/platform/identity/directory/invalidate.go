package directory

import (
	"encoding/json"

	"sluice/internal/platform/access"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/repo"
)

// Cache remembers who sent which key: *identity.Keys does.
type Cache interface {
	Invalidate(apikey.Hash)
	InvalidateWhere(func(*access.Principal) bool)
}

// Invalidate has the cache forget whatever this process changes: keys, users
// with their sessions, and tenants with all their keys. Other processes forget
// after their cache's time. Call it before the store is used.
func (d *Directory) Invalidate(c Cache) {
	d.store.Watch(func(changed *repo.Changeset) {
		for _, p := range changed.Puts {
			switch p.Kind {
			case Keys.Name:
				for _, hash := range hashes(p.Doc) {
					c.Invalidate(hash)
				}
			case Users.Name:
				c.InvalidateWhere(func(who *access.Principal) bool { return who.Tenant == p.Tenant && who.Subject == p.ID })
			case Tenants.Name:
				c.InvalidateWhere(func(who *access.Principal) bool { return who.Tenant == p.ID })
			}
		}
	})
}

// hashes returns those of a stored key's secrets.
func hashes(doc []byte) []apikey.Hash {
	var k Key
	if json.Unmarshal(doc, &k) != nil {
		return nil
	}
	var out []apikey.Hash
	for _, s := range k.Secrets {
		if h, err := apikey.ParseHash(s.Hash); err == nil {
			out = append(out, h)
		}
	}
	return out
}
