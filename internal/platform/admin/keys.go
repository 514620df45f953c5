package admin

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// NewKey is what issues an API key.
type NewKey struct {
	Name    string    `json:"name" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$" doc:"For people, on one line."`
	Roles   []string  `json:"roles" minItems:"1" maxItems:"20" doc:"What the key may do; no more than you may."`
	Scopes  []string  `json:"scopes,omitempty" maxItems:"200" doc:"Permissions that the key is cut down to; none leaves all that the roles grant."`
	Expires *api.Time `json:"expires_at,omitempty" doc:"When the key ends by itself."`

	id     directory.KeyID
	secret apikey.Key
}

// KeyChange is what changes one; what is left out stays.
type KeyChange struct {
	Name   *string   `json:"name,omitempty" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
	Roles  *[]string `json:"roles,omitempty" minItems:"1" maxItems:"20"`
	Scopes *[]string `json:"scopes,omitempty" maxItems:"200"`
}

// KeyView is what is shown of one.
type KeyView struct {
	resource.Meta
	Name    string       `json:"name"`
	Roles   []string     `json:"roles"`
	Scopes  []string     `json:"scopes,omitempty"`
	Expires *api.Time    `json:"expires_at,omitempty"`
	Subject string       `json:"subject,omitempty" doc:"The user whose session it is."`
	Secrets []SecretView `json:"secrets"`
	// Secret is shown once.
	Secret string `json:"secret,omitempty" doc:"The key itself. It is shown this once, and cannot be read again."`
}

// SecretView is what is shown of a secret.
type SecretView struct {
	Hint    string    `json:"hint" doc:"The secret's public beginning."`
	Expires *api.Time `json:"expires_at,omitempty" doc:"When it ends, after a rotation."`
}

func (m Admin) keys() resource.Resource[directory.KeyID, directory.Key, NewKey, KeyChange, KeyView] {
	return resource.Resource[directory.KeyID, directory.Key, NewKey, KeyChange, KeyView]{
		Kind: directory.Keys, Singular: "api_key", Read: keysRead, Write: keysWrite, Secret: true,
		Description: "An API key lets a program in. It is kept as a hash: its secret is shown when it is made, and never again. To delete a key is to revoke it, for good: it cannot be restored.",
		Hooks:       resource.Hooks[NewKey, KeyChange, directory.Key]{BeforeCreate: m.prepare},
		New:         m.newKey,
		Change:      m.changeKey,
		View:        viewKey,
	}
}

// prepare makes the secret of a new key and announces it, unless the command
// will be refused.
func (m Admin) prepare(ctx context.Context, in *NewKey) error {
	p, _ := access.From(ctx)
	if !p.Can(keysWrite) || !m.mayGrant(ctx, in.Roles, in.Scopes) {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "no id can be made")
	}
	in.id = aggregate.NewID[directory.KeyID]("key", id)
	if in.secret, err = apikey.Generate(rand.Reader); err != nil {
		return err
	}
	return m.Directory.Announce(ctx, p.Tenant, in.id, in.secret, time.Time{})
}

// grant refuses rights that the principal does not have. It is asked within the
// command, so that the refusal is audited.
func (m Admin) grant(ctx context.Context, roles, scopes []string) error {
	p, ok := access.From(ctx)
	if !ok {
		return access.ErrNoCredential
	}
	return directory.Grant(m.Roles, p, roles, permissions(scopes))
}

// mayGrant says what grant will say.
func (m Admin) mayGrant(ctx context.Context, roles, scopes []string) bool {
	return m.grant(ctx, roles, scopes) == nil
}

func (m Admin) newKey(ctx context.Context, tx *repo.Tx, in *NewKey) (*directory.Key, error) {
	if err := m.grant(ctx, in.Roles, in.Scopes); err != nil {
		return nil, err
	}
	if in.secret.Secret.IsZero() {
		return nil, fault.New(fault.Internal, "a key was to be issued that has no secret")
	}
	k := &directory.Key{Name: in.Name, Roles: in.Roles, Scopes: permissions(in.Scopes), Fresh: in.secret.Secret}
	k.ID = in.id
	if p, ok := access.From(ctx); ok {
		k.Person = p.Behind()
	}
	if in.Expires != nil {
		k.Expires = in.Expires.Time
		if !k.Expires.After(tx.Now()) {
			return nil, fault.New(fault.Unprocessable, "expires_at has passed: send a time to come, or none").WithCode("expired_already").
				WithDetails(fault.Detail{Pointer: "#/expires_at", Code: "expired_already", Message: "a time that has passed"})
		}
	}
	return k, k.Issue(in.secret, tx.Now(), time.Time{})
}

// changeKey may take rights away from a key that has more of them than who
// changes it, as to revoke it, but never hand out what they lack.
func (m Admin) changeKey(ctx context.Context, _ *repo.Tx, k *directory.Key, in *KeyChange) error {
	if k.Subject != "" {
		return errSession
	}
	if (in.Roles == nil) != (in.Scopes == nil) {
		return fault.New(fault.Unprocessable, "roles and scopes are changed together: send both").WithCode("roles_without_scopes")
	}
	roles, scopes := k.Roles, k.Scopes
	if in.Roles != nil {
		if err := m.grant(ctx, *in.Roles, *in.Scopes); err != nil {
			return err
		}
		roles, scopes = *in.Roles, permissions(*in.Scopes)
	}
	k.Set(or(in.Name, k.Name), roles, scopes)
	return nil
}

var (
	errSession error = fault.New(fault.Conflict, "this key is a user's session, which cannot be changed: delete it to end the session").WithCode("key_is_session")
	errRevoked error = fault.New(fault.Conflict, "a revoked key stays revoked, for its secret may be known to others: issue a new one").WithCode("key_revoked")
)

// stayRevoked refuses to restore a key. The refusal is the same for keys that
// are not there.
func stayRevoked(context.Context, *repo.Tx, string) error { return errRevoked }

func viewKey(k *directory.Key, meta resource.Meta) KeyView {
	v := KeyView{Meta: meta, Name: k.Name, Roles: k.Roles, Subject: string(k.Subject), Secrets: []SecretView{}, Secret: k.Fresh.Reveal(), Expires: optional(k.Expires)}
	for _, s := range k.Scopes {
		v.Scopes = append(v.Scopes, string(s))
	}
	for _, s := range k.Secrets {
		v.Secrets = append(v.Secrets, SecretView{s.Hint, optional(s.Expires)})
	}
	return v
}

func optional(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

func permissions(names []string) []access.Permission {
	var out []access.Permission
	for _, n := range names {
		out = append(out, access.Permission(n))
	}
	return out
}
