package directory

import (
	"context"
	"errors"
	"slices"
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
	// Subject acts instead of the key itself: the user whose session it is, as of
	// that sequence of its events.
	Subject      UserID `json:"subject,omitempty"`
	UserSequence int64  `json:"user_sequence,omitempty"`
	// Person is who was behind the principal that made the key; empty in keys of
	// before that was kept.
	Person string `json:"person,omitempty"`
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
		spec.TextField("subject", func(k *Key) string { return string(k.Subject) }),
	},
	Expires: (*Key).forgotten,
}

// forgotten is when nobody needs to see the key any more: sessions are many, and
// nobody looks after them.
func (k *Key) forgotten() time.Time {
	if k.Subject == "" {
		return time.Time{}
	}
	return k.Expires.Add(endedShown)
}

// KeyIssued says that a key got a secret.
type KeyIssued struct{}

// KeyChanged says that a key got another name or other rights.
type KeyChanged struct{}

// EventType implements aggregate.Event.
func (KeyIssued) EventType() string { return "api_key.issued" }

// EventType implements aggregate.Event.
func (KeyChanged) EventType() string { return "api_key.changed" }

type hashID string

// indexed says whose a key is.
type indexed struct {
	aggregate.Root[hashID]
	Tenant string    `json:"tenant"`
	Key    KeyID     `json:"key"`
	Until  time.Time `json:"until,omitzero"`
}

var keyIndex = repo.Kind[hashID, indexed]{
	Name: "api_key_index", Root: func(i *indexed) *aggregate.Root[hashID] { return &i.Root },
	Expires: func(i *indexed) time.Time { return i.Until },
}

// Expiring are the kinds of which things end by themselves, for who removes them
// from the store.
func Expiring() []string { return []string{Keys.Name, keyIndex.Name} }

// maxSecrets is how many secrets of a key may be good at once.
const maxSecrets = 2

// Set changes what the key is called and may do.
func (k *Key) Set(name string, roles []string, scopes []access.Permission) {
	if name != k.Name || !slices.Equal(roles, k.Roles) || !slices.Equal(scopes, k.Scopes) {
		k.Name, k.Roles, k.Scopes = name, roles, scopes
		k.Record(KeyChanged{})
	}
}

// Announce puts a secret into the index before the key gets it with Issue. Until
// is when the index may forget it; zero for never.
func (d *Directory) Announce(ctx context.Context, tenant string, id KeyID, made apikey.Key, until time.Time) error {
	err := d.store.Do(ctx, platform("system"), func(ctx context.Context, tx *repo.Tx) error {
		i := &indexed{Tenant: tenant, Key: id, Until: until}
		i.Root.ID = hashID(made.Hash.String())
		return keyIndex.Add(ctx, tx, i)
	})
	if errors.Is(err, repo.ErrExists) {
		return nil // announced before; nobody else can have made the same secret
	}
	return err
}

// Issue gives the key a secret. Those that it has end at the end of overlap, at
// once where that is not after now. fault.Conflict with the code "too_many": two
// would still be good beside it.
func (k *Key) Issue(made apikey.Key, now, overlap time.Time) error {
	k.Secrets = slices.DeleteFunc(k.Secrets, func(s Secret) bool { return ending(s.Expires, now) })
	if overlap.Before(now) {
		overlap = now
	}
	if len(k.Secrets) >= maxSecrets && overlap.After(now) {
		return fault.New(fault.Conflict, "the key has %d secrets, which is the most: wait until the older one has ended, or end both with an overlap of 0", maxSecrets).WithCode("too_many")
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

// Lookup implements identity.KeyLookup.
func (d *Directory) Lookup(ctx context.Context, hash apikey.Hash) (identity.KeyRecord, error) {
	i, err := keyIndex.Get(ctx, d.store.Read(platform("")), hashID(hash.String()))
	if err != nil {
		return identity.KeyRecord{}, err
	}
	if err := d.active(ctx, i.Tenant); err != nil {
		return identity.KeyRecord{}, err
	}
	k, err := Keys.Get(ctx, d.Reading(i.Tenant), i.Key)
	if err != nil {
		return identity.KeyRecord{}, err
	}
	found := slices.IndexFunc(k.Secrets, func(s Secret) bool { return s.Hash == hash.String() })
	if found < 0 {
		return identity.KeyRecord{}, repo.ErrNotFound // announced, and never issued
	}
	r := k.record(hash, k.Secrets[found])
	if k.Subject != "" {
		err = d.session(ctx, &k, &r)
	}
	if err == nil {
		r.Person, err = d.person(ctx, &k)
	}
	return r, err
}

func (k *Key) record(hash apikey.Hash, s Secret) identity.KeyRecord {
	r := identity.KeyRecord{ID: string(k.ID), Hash: hash, Tenant: k.Tenant, Roles: k.Roles, Scopes: k.Scopes, Expires: k.Expires}
	if !s.Expires.IsZero() && (r.Expires.IsZero() || s.Expires.Before(r.Expires)) {
		r.Expires = s.Expires
	}
	return r
}
