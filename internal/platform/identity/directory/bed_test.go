package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/password"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that stands until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// bed is a directory with the keys of a node, over a store that changes one
// aggregate at a time: what works there works on all.
type bed struct {
	*Directory
	t     testing.TB
	clock *clock
	store *repo.Store
	keys  *identity.Keys
	roles *access.Roles
	hash  *password.Hasher
}

const acme = "acme"

var scope = repo.Scope{Tenant: acme, Actor: "key_admin"}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{t: t, clock: &clock{at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	b.store = repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: b.clock.now})
	b.Directory = New(b.store, []byte("pseudonym"))
	catalog, err := access.NewCatalog(
		access.Declaration{Permission: "jobs:read", Roles: []string{access.Viewer, access.Operator}},
		access.Declaration{Permission: "jobs:run", Roles: []string{access.Operator}},
		access.Declaration{Permission: "tenants:write", Platform: true},
		access.Declaration{Permission: "self:use", Everyone: true},
	)
	if err == nil {
		b.roles, err = access.NewRoles(catalog)
	}
	if err == nil {
		b.keys, err = identity.NewKeys(b.Lookup, b.roles, b.clock.now, identity.KeysConfig{})
	}
	if err == nil {
		b.hash, err = password.New(password.Config{})
	}
	if err == nil {
		b.Invalidate(b.keys)
		err = b.EnsureTenant(t.Context(), acme, "Acme")
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) do(f func(ctx context.Context, tx *repo.Tx) error) {
	b.t.Helper()
	if err := b.store.Do(b.t.Context(), scope, f); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) generate() apikey.Key {
	b.t.Helper()
	made, err := apikey.Generate(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	return made
}

// issue makes a key with roles.
func (b *bed) issue(id KeyID, change func(*Key)) apikey.Key {
	b.t.Helper()
	made := b.generate()
	if err := b.Announce(b.t.Context(), acme, id, made, time.Time{}); err != nil {
		b.t.Fatal(err)
	}
	b.do(func(ctx context.Context, tx *repo.Tx) error {
		k := Key{Name: "test", Roles: []string{access.Viewer}}
		k.ID = id
		if change != nil {
			change(&k)
		}
		return errors.Join(k.Issue(made, tx.Now(), time.Time{}), Keys.Add(ctx, tx, &k))
	})
	return made
}

func (b *bed) rotate(id KeyID, overlap time.Duration) (apikey.Key, error) {
	b.t.Helper()
	made := b.generate()
	if err := b.Announce(b.t.Context(), acme, id, made, time.Time{}); err != nil {
		b.t.Fatal(err)
	}
	return made, b.store.Do(b.t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Keys.Update(ctx, tx, id, func(k *Key) error { return k.Issue(made, tx.Now(), tx.Now().Add(overlap)) })
		return err
	})
}

// opens says whom a secret lets in, or the code of the refusal.
func (b *bed) opens(s secret.Text) string {
	b.t.Helper()
	p, err := b.keys.Verify(b.t.Context(), s.Reveal())
	if err != nil {
		return fault.CodeOf(err)
	}
	return p.Subject
}

func (b *bed) expect(what string, s secret.Text, want string) {
	b.t.Helper()
	if got := b.opens(s); got != want {
		b.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// user makes a user whose password is the login twice.
func (b *bed) user(login string) *User {
	b.t.Helper()
	u := &User{Login: login}
	u.ID = b.UserID(acme, login)
	u.Set([]string{access.Viewer}, false, b.hashed(login+login))
	b.do(func(ctx context.Context, tx *repo.Tx) error { return Users.Add(ctx, tx, u) })
	return u
}

// hashes are kept over tests, for each takes its time.
var hashed sync.Map

func (b *bed) hashed(word string) string {
	b.t.Helper()
	if known, ok := hashed.Load(word); ok {
		return known.(string)
	}
	made, err := b.hash.Hash(b.t.Context(), secret.Of(word))
	if err != nil {
		b.t.Fatal(err)
	}
	hashed.Store(word, made)
	return made
}

func (b *bed) signIn(tenant, login, word string) (*User, error) {
	return b.SignIn(b.t.Context(), b.hash, tenant, login, secret.Of(word))
}

// session makes a session of a user who has signed in.
func (b *bed) session(login string) *Key {
	b.t.Helper()
	u, err := Users.Get(b.t.Context(), b.Reading(acme), b.UserID(acme, login))
	if err != nil {
		b.t.Fatal(err)
	}
	k, err := b.NewSession(b.t.Context(), &u)
	if err != nil {
		b.t.Fatal(err)
	}
	b.do(func(ctx context.Context, tx *repo.Tx) error { return Keys.Add(ctx, tx, k) })
	return k
}

// suspend shuts the tenant out, or lets it in again.
func (b *bed) suspend(yes bool) {
	b.t.Helper()
	err := b.store.Do(b.t.Context(), platform("key_root"), func(ctx context.Context, tx *repo.Tx) error {
		_, err := Tenants.Update(ctx, tx, acme, func(a *Tenant) error { a.Set(a.Name, yes); return nil })
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
