package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/password"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
)

// SessionTime is how long a session lasts.
const SessionTime = 12 * time.Hour

// endedShown is for how long a session that has ended is still known, so that
// its user is told that it has.
const endedShown = 24 * time.Hour

// ErrSignIn is what is wrong with a sign-in: nobody is told what exactly.
var ErrSignIn error = fault.New(fault.Unauthenticated, "the tenant, the login or the password is wrong").WithCode("sign_in_failed")

// SignIn checks a password and returns its user. Whatever is wrong, tenant,
// login or password, it takes as long and says the same: ErrSignIn. It is
// fault.Exhausted with the code "sign_in_throttled" where there were too many
// attempts with this login.
func (d *Directory) SignIn(ctx context.Context, h *password.Hasher, tenant, login string, given secret.Text) (*User, error) {
	return d.Verify(ctx, h, tenant, d.UserID(tenant, login), given)
}

// Verify is SignIn for a user whose id is known.
func (d *Directory) Verify(ctx context.Context, h *password.Hasher, tenant string, id UserID, given secret.Text) (*User, error) {
	if err := d.attempts.take(id, d.store.Now()); err != nil {
		return nil, err
	}
	user, err := d.user(ctx, tenant, id)
	if errors.Is(err, repo.ErrNotFound) {
		if err := h.VerifyNobody(ctx, given); !fault.Is(err, fault.Unauthenticated) {
			return nil, err
		}
		return nil, ErrSignIn
	}
	if err != nil {
		return nil, err
	}
	rehash, err := h.Verify(ctx, user.Password, given)
	if fault.Is(err, fault.Unauthenticated) {
		return nil, ErrSignIn
	}
	if err == nil && rehash {
		err = d.rehash(ctx, h, user, given)
	}
	if err != nil {
		return nil, err
	}
	d.attempts.forget(id)
	return user, nil
}

// user returns one that may sign in, or repo.ErrNotFound. What is read does not
// depend on what is there.
func (d *Directory) user(ctx context.Context, tenant string, id UserID) (*User, error) {
	if access.CheckTenant(tenant) != nil {
		return nil, repo.ErrNotFound
	}
	user, err := Users.Get(ctx, d.Reading(tenant), id)
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return nil, err
	}
	if inactive := d.active(ctx, tenant); inactive != nil {
		return nil, inactive
	}
	if err != nil || user.Disabled {
		return nil, repo.ErrNotFound
	}
	return &user, nil
}

// rehash keeps the password by today's parameters, unless it was changed
// meanwhile.
func (d *Directory) rehash(ctx context.Context, h *password.Hasher, user *User, given secret.Text) error {
	hashed, err := h.Hash(ctx, given)
	if err != nil {
		return err
	}
	return d.store.Do(ctx, repo.Scope{Tenant: user.Tenant, Actor: string(user.ID)}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Users.Update(ctx, tx, user.ID, func(u *User) error {
			if u.Password == user.Password {
				u.Password = hashed
			}
			return nil
		})
		return err
	})
}

// NewSession makes the session of a user who has signed in: an API key of its
// own that ends by itself. It counts once it is added to Keys.
func (d *Directory) NewSession(ctx context.Context, user *User) (*Key, error) {
	made, err := apikey.Generate(rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "no id can be made")
	}
	now := d.store.Now()
	k := &Key{Name: "session", Roles: user.Roles, Subject: user.ID, UserSequence: user.Sequence, Expires: now.Add(SessionTime), Fresh: made.Secret}
	k.ID = aggregate.NewID[KeyID]("key", id)
	if err := k.Issue(made, now, time.Time{}); err != nil {
		return nil, err
	}
	return k, d.Announce(ctx, user.Tenant, k.ID, made, k.Expires.Add(endedShown))
}

// session completes the record of a session's key: it has its user's rights. It
// is of the user as of the sign-in; whatever has happened to the user since, a
// new password, another role, a deletion, has ended it.
func (d *Directory) session(ctx context.Context, k *Key, r *identity.KeyRecord) error {
	u, err := Users.Get(ctx, d.Reading(k.Tenant), k.Subject)
	if err != nil {
		return err
	}
	if u.Sequence != k.UserSequence { // disabled since, among others
		return repo.ErrNotFound
	}
	r.User, r.Roles = string(u.ID), u.Roles
	return nil
}
