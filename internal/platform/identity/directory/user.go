package directory

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"sluice/internal/platform/aggregate"
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

// UserChanged says that a user was made, or got another password, roles or
// state. Every event of a user ends its sessions.
type UserChanged struct {
	Disabled bool `json:"disabled"`
}

// EventType implements aggregate.Event.
func (UserChanged) EventType() string { return "user.changed" }

// Set changes the user. An empty password, which is a hash, leaves it as it is.
func (u *User) Set(roles []string, disabled bool, hashed string) {
	hashed = cmp.Or(hashed, u.Password)
	if u.Version == 0 || hashed != u.Password || disabled != u.Disabled || !slices.Equal(roles, u.Roles) {
		u.Password, u.Roles, u.Disabled = hashed, roles, disabled
		u.Record(UserChanged{disabled})
	}
}

// UserID returns the id of the user of a login.
func (d *Directory) UserID(tenant, login string) UserID {
	mac := hmac.New(sha256.New, d.pseudonym)
	mac.Write([]byte(tenant + "\x00" + login))
	return UserID("usr_" + hex.EncodeToString(mac.Sum(nil)[:16]))
}
