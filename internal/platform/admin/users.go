package admin

import (
	"context"

	"sluice/internal/platform/access"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/resource"
)

// NewUser is what makes a user.
type NewUser struct {
	Login    string   `json:"login" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$" doc:"Unique within the tenant, byte by byte."`
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
		Description: "A user signs in with a password, for a session. Whatever is changed about a user, a password say, ends all sessions of theirs, as a deletion does. Organisations with an identity provider use its tokens instead.",
		Hooks: resource.Hooks[NewUser, UserChange, directory.User]{
			BeforeCreate: func(ctx context.Context, in *NewUser) (err error) {
				p, _ := access.From(ctx)
				if !p.Can(usersWrite) || !m.mayGrant(ctx, in.Roles, nil) {
					return nil // the command is refused
				}
				in.id = m.Directory.UserID(p.Tenant, in.Login)
				in.hashed, err = m.Passwords.Hash(ctx, secret.Of(in.Password))
				return err
			},
			BeforeChange: func(ctx context.Context, in *UserChange) (err error) {
				if p, _ := access.From(ctx); p.Can(usersWrite) && in.Password != nil {
					in.hashed, err = m.Passwords.Hash(ctx, secret.Of(*in.Password))
				}
				return err
			},
		},
		New: func(ctx context.Context, _ *repo.Tx, in *NewUser) (*directory.User, error) {
			u := &directory.User{Login: in.Login}
			u.ID = in.id
			u.Set(in.Roles, false, in.hashed)
			return u, m.grant(ctx, in.Roles, nil)
		},
		Change: func(ctx context.Context, _ *repo.Tx, u *directory.User, in *UserChange) error {
			if err := m.command(ctx, u); err != nil {
				return err
			}
			if in.Roles != nil {
				if err := m.grant(ctx, *in.Roles, nil); err != nil {
					return err
				}
			}
			u.Set(or(in.Roles, u.Roles), or(in.Disabled, u.Disabled), in.hashed)
			return nil
		},
		View: func(u *directory.User, meta resource.Meta) UserView {
			return UserView{meta, u.Login, u.Roles, u.Disabled}
		},
	}
}

// command refuses to change a user who may do more than who asks: a new password
// would let them act as the user.
func (m Admin) command(ctx context.Context, u *directory.User) error {
	p, ok := access.From(ctx)
	if !ok {
		return access.ErrNoCredential
	}
	return directory.Command(m.Roles, p, u.Roles, nil)
}

// restored is the event of a user who is back.
type restored struct{}

// EventType implements aggregate.Event.
func (restored) EventType() string { return "user.restored" }

// mayRestore refuses to bring back a user with more rights than who asks. What
// is deleted is read by restoring it: the command itself then finds it done.
func (m Admin) mayRestore(ctx context.Context, tx *repo.Tx, id string) error {
	u, err := directory.Users.Restore(ctx, tx, directory.UserID(id), restored{})
	if err != nil {
		return err
	}
	return m.command(ctx, &u)
}
