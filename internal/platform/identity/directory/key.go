package directory

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// KeyID is the id of an API key: what it is called in logs and audit entries.
type KeyID string

// Key is an API key: what it may do, and which secrets open it.
type Key struct {
	aggregate.Root[KeyID]
	Name    string              `json:"name"` // for people
	Roles   []string            `json:"roles"`
	Scopes  []access.Permission `json:"scopes,omitempty"` // none: all that the roles grant
	Expires time.Time           `json:"expires,omitzero"`
	Secrets []Secret            `json:"secrets"` // the newest last
	// Subject acts instead of the key itself: the user whose session it is.
	Subject string `json:"subject,omitempty"`
	// Fresh is the secret that was just issued, for its holder; it is not stored.
	Fresh secret.Text `json:"-"`
}

// Secret is one that opens a key; during a rotation there are two.
type Secret struct {
	Hash    string    `json:"hash"` // SHA-256 in hex
	Hint    string    `json:"hint"` // by which people tell it apart
	Expires time.Time `json:"expires,omitzero"`
}

// Keys keeps API keys.
var Keys = repo.Kind[KeyID, Key]{
	Name: "api_keys", Root: func(k *Key) *aggregate.Root[KeyID] { return &k.Root },
	Columns: []spec.Column[Key]{
		spec.TextField("name", func(k *Key) string { return k.Name }),
		spec.TextField("subject", func(k *Key) string { return k.Subject }),
	},
}

// KeyIssued says that a key got a secret; KeyChanged that its rights changed.
type (
	KeyIssued  struct{}
	KeyChanged struct{}
)

// EventType implements aggregate.Event.
func (KeyIssued) EventType() string { return "api_key.issued" }

// EventType implements aggregate.Event.
func (KeyChanged) EventType() string { return "api_key.changed" }

type hashID string

// indexed says whose a key is.
type indexed struct {
	aggregate.Root[hashID]
	Tenant string `json:"tenant"`
	Key    KeyID  `json:"key"`
}

var keyIndex = repo.Kind[hashID, indexed]{Name: "api_key_index", Root: func(i *indexed) *aggregate.Root[hashID] { return &i.Root }}

// maxSecrets is how many secrets of a key may be good at once.
const maxSecrets = 2

// Announce puts a secret into the index before the key gets it with Issue.
func (d *Directory) Announce(ctx context.Context, tenant string, id KeyID, made apikey.Key) error {
	err := d.store.Do(ctx, platform("system"), func(ctx context.Context, tx *repo.Tx) error {
		i := &indexed{Tenant: tenant, Key: id}
		i.Root.ID = hashID(made.Hash.String())
		return keyIndex.Add(ctx, tx, i)
	})
	if errors.Is(err, repo.ErrExists) {
		return nil // announced before; nobody else can have made the same secret
	}
	return err
}

// Issue gives the key a secret. Those that it has end at the end of overlap.
func (k *Key) Issue(made apikey.Key, now, overlap time.Time) error {
	k.Secrets = slices.DeleteFunc(k.Secrets, func(s Secret) bool { return ending(s.Expires, now) })
	if len(k.Secrets) >= maxSecrets {
		return tooMany("secrets of this key", maxSecrets)
	}
	for i, s := range k.Secrets {
		if s.Expires.IsZero() || overlap.Before(s.Expires) {
			k.Secrets[i].Expires = overlap
		}
	}
	k.Secrets = append(k.Secrets, Secret{Hash: made.Hash.String(), Hint: made.Hint})
	k.Record(KeyIssued{})
	return nil
}

// Grant refuses to give rights that the principal does not have itself.
func Grant(roles *access.Roles, p *access.Principal, names []string, scopes []access.Permission) error {
	for i, name := range names {
		if _, known := roles.Get(name); !known {
			return fault.New(fault.Unprocessable, "there is no role %q, expected some of %q", fault.Clip(name, 64), roles.Names()).WithCode("role_unknown").
				WithDetails(fault.Detail{Pointer: "#/roles/" + strconv.Itoa(i), Code: "role_unknown", Message: "the role does not exist"})
		}
	}
	granted := roles.Effective(names, scopes)
	if missing := granted.Without(p.Permissions).List(); len(missing) > 0 {
		return fault.New(fault.PermissionDenied, "nobody can grant what they do not have; you lack %q", missing).WithCode("grant_exceeds_own")
	}
	return nil
}

// Lookup implements identity.KeyLookup.
func (d *Directory) Lookup(ctx context.Context, hash apikey.Hash) (identity.KeyRecord, error) {
	i, err := keyIndex.Get(ctx, d.store.Read(platform("")), hashID(hash.String()))
	if err != nil {
		return identity.KeyRecord{}, err
	}
	if err := d.active(ctx, i.Tenant); err != nil {
		return identity.KeyRecord{}, err
	}
	k, err := Keys.Get(ctx, d.store.Read(repo.Scope{Tenant: i.Tenant}), i.Key)
	if err != nil {
		return identity.KeyRecord{}, err
	}
	for _, s := range k.Secrets {
		if s.Hash == hash.String() {
			return k.record(hash, s), nil
		}
	}
	return identity.KeyRecord{}, repo.ErrNotFound
}

func (k *Key) record(hash apikey.Hash, s Secret) identity.KeyRecord {
	r := identity.KeyRecord{ID: string(k.ID), Hash: hash, Tenant: k.Tenant, Roles: k.Roles, Scopes: k.Scopes, Expires: k.Expires}
	if k.Subject != "" {
		r.ID = k.Subject
	}
	if !s.Expires.IsZero() && (r.Expires.IsZero() || s.Expires.Before(r.Expires)) {
		r.Expires = s.Expires
	}
	return r
}

// Invalidate has forget called for the secrets of every key that this process
// changes. Other processes, and those that know a suspended tenant's keys, forget
// them after their cache's time.
func (d *Directory) Invalidate(forget func(apikey.Hash)) {
	d.store.Watch(func(c *repo.Changeset) {
		for _, p := range c.Puts {
			if p.Kind != Keys.Name {
				continue
			}
			for _, hash := range hashes(p.Doc) {
				forget(hash)
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
