package admin

import (
	"context"
	"net/http"

	"sluice/internal/platform/access"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// NewUser is what makes a user.
type NewUser struct {
	Login    string   `json:"login" minLength:"1" maxLength:"200" doc:"Unique within the tenant."`
	Password string   `json:"password" minLength:"8" maxLength:"1024" writeOnly:"true" doc:"8 to 1024 bytes. It is kept as a hash."`
	Roles    []string `json:"roles" minItems:"1" maxItems:"20" doc:"What the user may do; no more than you may."`

	hashed string
	id     directory.UserID
}

// UserChange is what changes one; what is left out stays.
type UserChange struct {
	Password *string   `json:"password,omitempty" minLength:"8" maxLength:"1024" writeOnly:"true"`
	Roles    *[]string `json:"roles,omitempty" minItems:"1" maxItems:"20"`
	Disabled *bool     `json:"disabled,omitempty" doc:"A disabled user cannot sign in."`

	hashed string
}

// UserView is what is shown of one.
type UserView struct {
	resource.Meta
	Login    string   `json:"login"`
	Roles    []string `json:"roles"`
	Disabled bool     `json:"disabled"`
}

func (m Admin) users() resource.Resource[directory.UserID, directory.User, NewUser, UserChange, UserView] {
	return resource.Resource[directory.UserID, directory.User, NewUser, UserChange, UserView]{
		Kind: directory.Users, Singular: "user", Read: usersRead, Write: usersWrite,
		Description: "A user signs in with a password, for a session. Organisations with an identity provider use its tokens instead.",
		Hooks: resource.Hooks[NewUser, UserChange, directory.User]{
			BeforeCreate: func(ctx context.Context, in *NewUser) (err error) {
				if access.Check(ctx, usersWrite) != nil {
					return nil // the command is refused, and audited
				}
				p, _ := access.From(ctx)
				if err := directory.Grant(m.Roles, p, in.Roles, nil); err != nil {
					return err
				}
				in.id = m.Directory.UserID(p.Tenant, in.Login)
				in.hashed, err = m.Passwords.Hash(ctx, secret.Of(in.Password))
				return err
			},
			BeforeChange: func(ctx context.Context, in *UserChange) (err error) {
				if access.Check(ctx, usersWrite) != nil {
					return nil
				}
				p, _ := access.From(ctx)
				if in.Roles != nil {
					if err := directory.Grant(m.Roles, p, *in.Roles, nil); err != nil {
						return err
					}
				}
				if in.Password != nil {
					in.hashed, err = m.Passwords.Hash(ctx, secret.Of(*in.Password))
				}
				return err
			},
		},
		New: func(_ context.Context, _ *repo.Tx, in *NewUser) (*directory.User, error) {
			u := &directory.User{Login: in.Login, Password: in.hashed, Roles: in.Roles}
			u.ID = in.id
			return u, nil
		},
		Change: func(_ context.Context, _ *repo.Tx, u *directory.User, in *UserChange) error {
			if in.Password != nil {
				u.Password = in.hashed
			}
			if in.Roles != nil {
				u.Roles = *in.Roles
			}
			if in.Disabled != nil {
				u.Disabled = *in.Disabled
			}
			return nil
		},
		View: func(u *directory.User, meta resource.Meta) UserView {
			return UserView{meta, u.Login, u.Roles, u.Disabled}
		},
	}
}

// SignIn is what begins a session.
type SignIn struct {
	Tenant   string `json:"tenant" minLength:"1" maxLength:"64"`
	Login    string `json:"login" minLength:"1" maxLength:"200"`
	Password string `json:"password" minLength:"1" maxLength:"1024" writeOnly:"true"`
}

// SessionView is a session that has begun.
type SessionView struct {
	Token   string   `json:"token" doc:"Send it as Authorization: Bearer. It is shown this once."`
	KeyID   string   `json:"key_id" doc:"The API key that the session is; delete it to sign out."`
	UserID  string   `json:"user_id"`
	Expires api.Time `json:"expires_at"`
}

// sessions adds the operation that signs users in.
func (m Admin) sessions(a *api.API) {
	op := api.Operation{ID: "create-session", Method: http.MethodPost, Path: "/sessions", Summary: "Sign in", Tags: []string{directory.Users.Name},
		Description: "Checks a password, and begins a session.", Permission: web.Public, Status: http.StatusCreated}
	api.Register(a, op, func(ctx context.Context, in *struct{ Body SignIn }) (*struct{ Body SessionView }, error) {
		s, err := m.Directory.SignIn(ctx, m.Passwords, in.Body.Tenant, in.Body.Login, secret.Of(in.Body.Password))
		if err != nil {
			return nil, err
		}
		return &struct{ Body SessionView }{SessionView{s.Secret.Reveal(), string(s.Key.ID), s.Key.Subject, api.Time{Time: s.Key.Expires}}}, nil
	})
}
