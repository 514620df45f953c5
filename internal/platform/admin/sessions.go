package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
)

// SignIn is what begins a session.
type SignIn struct {
	Tenant   string `json:"tenant" minLength:"1" maxLength:"64"`
	Login    string `json:"login" minLength:"1" maxLength:"200"`
	Password string `json:"password" minLength:"1" maxLength:"1024" writeOnly:"true"`
}

// SessionView is a session that has begun.
type SessionView struct {
	Token   string   `json:"token" doc:"Send it as Authorization: Bearer. It is shown this once."`
	KeyID   string   `json:"key_id" doc:"The API key that the session is."`
	UserID  string   `json:"user_id"`
	Expires api.Time `json:"expires_at"`
}

// signIn begins a session; signOut ends the one that it is sent with.
type (
	signIn struct {
		cqrs.Returns[*directory.Key]
		key *directory.Key
	}
	signOut struct {
		cqrs.Returns[struct{}]
		id directory.KeyID
	}
)

func (signIn) CommandName() string          { return "sessions.create" }
func (c signIn) Target() (kind, id string)  { return directory.Keys.Name, string(c.key.ID) }
func (signOut) CommandName() string         { return "sessions.delete" }
func (c signOut) Target() (kind, id string) { return directory.Keys.Name, string(c.id) }

// signedOut is the event of a session that its user has ended.
type signedOut struct{}

// EventType implements aggregate.Event.
func (signedOut) EventType() string { return "api_key.deleted" }

// sessions adds the operations that sign users in and out.
func (m Admin) sessions(a *api.API, b *cqrs.Bus) {
	cqrs.Handle(b, selfUse, func(ctx context.Context, tx *repo.Tx, c signIn) (*directory.Key, error) {
		return c.key, directory.Keys.Add(ctx, tx, c.key)
	})
	cqrs.Handle(b, selfUse, func(ctx context.Context, tx *repo.Tx, c signOut) (struct{}, error) {
		return struct{}{}, directory.Keys.Delete(ctx, tx, c.id, signedOut{})
	})
	in := api.Operation{ID: "create-session", Method: http.MethodPost, Path: "/sessions", Summary: "Sign in", Tags: []string{directory.Users.Name},
		Description: "Checks a password, and begins a session. After ten attempts in five minutes a login has to wait.", Permission: web.Public, Status: http.StatusCreated}
	api.Register(a, in, func(ctx context.Context, in *struct{ Body SignIn }) (*struct{ Body SessionView }, error) {
		k, err := m.signIn(ctx, b, &in.Body)
		if err != nil {
			return nil, err
		}
		return &struct{ Body SessionView }{SessionView{k.Fresh.Reveal(), string(k.ID), string(k.Subject), api.Time{Time: k.Expires}}}, nil
	})
	out := api.Operation{ID: "delete-session", Method: http.MethodDelete, Path: "/me/session", Summary: "Sign out", Tags: []string{directory.Users.Name},
		Description: "Ends the session that it is sent with.", Permission: selfUse, Status: http.StatusNoContent}
	api.Register(a, out, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		p, err := ofSession(ctx)
		if err == nil {
			_, err = cqrs.Send(ctx, b, signOut{id: directory.KeyID(p.Credential)})
		}
		return nil, err
	})
}

// failTime is how long a sign-in that fails takes at least, so that the time does
// not tell what was wrong.
const failTime = 300 * time.Millisecond

// signIn checks the password. Success and failure are audited as the user's
// doing, where there is such a user: strangers must not fill the audit log.
func (m Admin) signIn(ctx context.Context, b *cqrs.Bus, in *SignIn) (*directory.Key, error) {
	who := access.Principal{Subject: string(m.Directory.UserID(in.Tenant, in.Login)), Kind: access.KindUser, Method: access.MethodPassword}
	if access.CheckTenant(in.Tenant) == nil {
		who.Tenant = in.Tenant
	}
	answer := time.NewTimer(failTime)
	defer answer.Stop()
	user, err := m.Directory.SignIn(ctx, m.Passwords, in.Tenant, in.Login, secret.Of(in.Password))
	if errors.Is(err, directory.ErrSignIn) {
		if known, _ := directory.Users.Exists(ctx, m.Directory.Reading(who.Tenant), directory.UserID(who.Subject)); known {
			b.Denied(access.With(ctx, &who), signIn{}.CommandName(), err)
		}
		select {
		case <-answer.C:
		case <-ctx.Done():
		}
	}
	if err != nil {
		return nil, err
	}
	who.Permissions = access.SetOf(selfUse)
	k, err := m.Directory.NewSession(ctx, user)
	if err != nil {
		return nil, err
	}
	return cqrs.Send(access.With(ctx, &who), b, signIn{key: k})
}

// ofSession returns the principal of a session.
func ofSession(ctx context.Context) (*access.Principal, error) {
	p, ok := access.From(ctx)
	if !ok || p.Method != access.MethodPassword || p.Credential == "" {
		return nil, fault.New(fault.Conflict, "this is for users who have signed in with a password; the request comes with another credential").WithCode("no_session")
	}
	return p, nil
}
