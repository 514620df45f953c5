package admin

import (
	"context"
	"net/http"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
)

// Me is who sends the request.
type Me struct {
	Tenant      string    `json:"tenant"`
	Subject     string    `json:"subject" doc:"What the audit log calls you."`
	Kind        string    `json:"kind" enum:"anonymous,api_key,user,service"`
	Method      string    `json:"method" enum:"none,api_key,jwt,mtls,password" doc:"How you have proved who you are."`
	Credential  string    `json:"credential,omitempty" doc:"The id of your API key or session."`
	Roles       []string  `json:"roles"`
	Permissions []string  `json:"permissions" doc:"What you may do, all in all."`
	Expires     *api.Time `json:"expires_at,omitempty" doc:"When your credential ends."`
}

// RoleView is a role with what it grants.
type RoleView struct {
	Name        string   `json:"name"`
	Permissions []string `json:"permissions"`
}

// PermissionView is a permission with what it is for.
type PermissionView struct {
	Permission string `json:"permission"`
	About      string `json:"about"`
	Platform   bool   `json:"platform" doc:"Whether it concerns more than one tenant."`
	Everyone   bool   `json:"everyone" doc:"Whether everybody holds it."`
}

// PasswordChange is what gives a user another password.
type PasswordChange struct {
	Current string `json:"current_password" minLength:"1" maxLength:"1024" writeOnly:"true"`
	New     string `json:"new_password" minLength:"8" maxLength:"1024" writeOnly:"true" doc:"8 to 1024 bytes."`
}

type page[T any] struct{ Body api.Page[T] }

// self adds what everybody may ask and do about themselves.
func (m Admin) self(a *api.API, b *cqrs.Bus) {
	op := func(id, path, summary string) api.Operation {
		return api.Operation{ID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"access"}, Permission: selfUse}
	}
	api.Register(a, op("get-me", "/me", "Who am I?"), func(ctx context.Context, _ *struct{}) (*struct{ Body Me }, error) {
		p, _ := access.From(ctx)
		return &struct{ Body Me }{Me{p.Tenant, p.Subject, string(p.Kind), string(p.Method), p.Credential, append([]string{}, p.Roles...), names(p.Permissions), optional(p.Expires)}}, nil
	})
	api.Register(a, op("list-roles", "/roles", "List: roles"), func(context.Context, *struct{}) (*page[RoleView], error) {
		var all []RoleView
		for _, name := range m.Roles.Names() {
			granted, _ := m.Roles.Get(name)
			all = append(all, RoleView{name, names(granted)})
		}
		return &page[RoleView]{api.NewPage(all, "")}, nil
	})
	api.Register(a, op("list-permissions", "/permissions", "List: permissions"), func(context.Context, *struct{}) (*page[PermissionView], error) {
		var all []PermissionView
		for d := range m.Catalog.All() {
			all = append(all, PermissionView{string(d.Permission), d.About, d.Platform, d.Everyone})
		}
		return &page[PermissionView]{api.NewPage(all, "")}, nil
	})
	m.password(a, b)
}

func names(s access.Set) []string {
	all := []string{}
	for _, p := range s.List() {
		all = append(all, string(p))
	}
	return all
}

type setPassword struct {
	cqrs.Returns[struct{}]
	user   *directory.User // as of when the old password was checked
	hashed string
}

func (setPassword) CommandName() string         { return "users.set_password" }
func (c setPassword) Target() (kind, id string) { return directory.Users.Name, string(c.user.ID) }

// password adds the operation by which users change their own password.
func (m Admin) password(a *api.API, b *cqrs.Bus) {
	cqrs.Handle(b, selfUse, func(ctx context.Context, tx *repo.Tx, c setPassword) (struct{}, error) {
		_, err := directory.Users.Update(ctx, tx, c.user.ID, func(u *directory.User) error {
			if u.Password != c.user.Password {
				return directory.ErrSignIn // somebody else has changed it meanwhile
			}
			u.Set(u.Roles, u.Disabled, c.hashed)
			return nil
		})
		return struct{}{}, err
	})
	op := api.Operation{ID: "change-my-password", Method: http.MethodPut, Path: "/me/password", Summary: "Change my password", Tags: []string{directory.Users.Name},
		Description: "Changes the password of the user whose session it is sent with, and ends all sessions of theirs, this one too: sign in again.",
		Permission:  selfUse, Status: http.StatusNoContent}
	api.Register(a, op, func(ctx context.Context, in *struct{ Body PasswordChange }) (*struct{}, error) {
		p, err := ofSession(ctx)
		if err != nil {
			return nil, err
		}
		user, err := m.Directory.Verify(ctx, m.Passwords, p.Tenant, directory.UserID(p.Subject), secret.Of(in.Body.Current))
		if err != nil {
			b.Denied(ctx, setPassword{}.CommandName(), err)
			return nil, err
		}
		hashed, err := m.Passwords.Hash(ctx, secret.Of(in.Body.New))
		if err != nil {
			return nil, err
		}
		_, err = cqrs.Send(ctx, b, setPassword{user: user, hashed: hashed})
		return nil, err
	})
}
