package directory

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/password"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// UserID is the id of a user: a keyed hash of tenant and login, so that one is
// found by the other, and nobody finds the login by guessing.
type UserID string

// User is a person who signs in with a password.
type User struct {
	aggregate.Root[UserID]
	Login    string   `json:"login"`
	Password string   `json:"password"` // argon2id, as a PHC string
	Roles    []string `json:"roles"`
	Disabled bool     `json:"disabled,omitempty"`
}

// Users keeps them.
var Users = repo.Kind[UserID, User]{
	Name: "users", Root: func(u *User) *aggregate.Root[UserID] { return &u.Root },
	Columns: []spec.Column[User]{spec.TextField("login", func(u *User) string { return u.Login })},
}

// UserID returns the id of the user of a login.
func (d *Directory) UserID(tenant, login string) UserID {
	mac := hmac.New(sha256.New, d.pseudonym)
	mac.Write([]byte(tenant + "\x00" + login))
	return UserID("usr_" + hex.EncodeToString(mac.Sum(nil)[:16]))
}

// Session is a sign-in: an API key of its own that ends by itself.
type Session struct {
	Key    Key
	Secret secret.Text
}

// SessionTime is how long a session lasts.
const SessionTime = 12 * time.Hour

// SignIn checks a password and begins a session. Whatever is wrong, tenant,
// login or password, it takes as long and says the same.
func (d *Directory) SignIn(ctx context.Context, h *password.Hasher, tenant, login string, given secret.Text) (Session, error) {
	wrong := fault.New(fault.Unauthenticated, "the tenant, the login or the password is wrong").WithCode("sign_in_failed")
	user, err := Users.Get(ctx, d.store.Read(repo.Scope{Tenant: tenant}), d.UserID(tenant, login))
	if err == nil {
		err = d.active(ctx, tenant)
	}
	if errors.Is(err, repo.ErrNotFound) || err == nil && user.Disabled {
		if err := h.VerifyNobody(ctx, given); fault.Of(err).Kind.Retryable() {
			return Session{}, err
		}
		return Session{}, wrong
	}
	if err != nil {
		return Session{}, err
	}
	rehash, err := h.Verify(ctx, user.Password, given)
	switch {
	case fault.Is(err, fault.Unauthenticated):
		return Session{}, wrong
	case err != nil:
		return Session{}, err
	case rehash:
		if err := d.rehash(ctx, h, tenant, user.ID, given); err != nil {
			return Session{}, err
		}
	}
	return d.begin(ctx, tenant, &user)
}

// rehash keeps the password by today's parameters.
func (d *Directory) rehash(ctx context.Context, h *password.Hasher, tenant string, id UserID, given secret.Text) error {
	hashed, err := h.Hash(ctx, given)
	if err != nil {
		return err
	}
	return d.store.Do(ctx, repo.Scope{Tenant: tenant, Actor: string(id)}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Users.Update(ctx, tx, id, func(u *User) error { u.Password = hashed; return nil })
		return err
	})
}

func (d *Directory) begin(ctx context.Context, tenant string, user *User) (Session, error) {
	made, err := apikey.Generate(rand.Reader)
	if err != nil {
		return Session{}, err
	}
	k := Key{Name: "session", Roles: user.Roles, Subject: string(user.ID), Expires: d.store.Now().Add(SessionTime)}
	operation, err := uuid.NewV7()
	if err != nil {
		return Session{}, fault.Wrap(fault.Internal, err, "no id can be made")
	}
	k.ID = aggregate.NewID[KeyID]("key", operation)
	if err := k.Issue(made, d.store.Now(), time.Time{}); err != nil {
		return Session{}, err
	}
	if err := d.Announce(ctx, tenant, k.ID, made); err != nil {
		return Session{}, err
	}
	err = d.store.Do(ctx, repo.Scope{Tenant: tenant, Actor: string(user.ID), Operation: operation}, func(ctx context.Context, tx *repo.Tx) error {
		return Keys.Add(ctx, tx, &k)
	})
	return Session{k, made.Secret}, err
}

// firstKey is the id of the key that the first start makes.
const firstKey KeyID = "key_00000000000000000000000000000001"

// Count implements identity.Bootstrap's question: whether the first start was
// before.
func (d *Directory) Count(ctx context.Context, tenant string) (int, error) {
	there, err := Keys.Exists(ctx, d.store.Read(repo.Scope{Tenant: tenant}), firstKey)
	if err != nil || !there {
		return 0, err
	}
	return 1, nil
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
	if err := d.Announce(ctx, tenant, k.ID, made); err != nil {
		return err
	}
	return d.store.Do(ctx, repo.Scope{Tenant: tenant, Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error { return Keys.Add(ctx, tx, &k) })
}
