package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// NewKey is what issues an API key.
type NewKey struct {
	Name    string    `json:"name" minLength:"1" maxLength:"200" doc:"For people."`
	Roles   []string  `json:"roles" minItems:"1" maxItems:"20" doc:"What the key may do; no more than you may."`
	Scopes  []string  `json:"scopes,omitempty" maxItems:"200" doc:"Permissions that the key is cut down to; none leaves all that the roles grant."`
	Expires *api.Time `json:"expires_at,omitempty" doc:"When the key ends by itself."`

	id     directory.KeyID
	secret apikey.Key
}

// KeyChange is what changes one; what is left out stays.
type KeyChange struct {
	Name   *string   `json:"name,omitempty" minLength:"1" maxLength:"200"`
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
		Description: "An API key lets a program in. It is kept as a hash: its secret is shown when it is made, and never again.",
		Hooks: resource.Hooks[NewKey, KeyChange, directory.Key]{
			BeforeCreate: m.prepare,
			BeforeChange: func(ctx context.Context, in *KeyChange) error {
				p, _ := access.From(ctx)
				if in.Roles == nil && in.Scopes == nil || p == nil {
					return nil // without a principal the command is refused
				}
				if in.Roles == nil || in.Scopes == nil {
					return fault.New(fault.Unprocessable, "roles and scopes are changed together: send both").WithCode("roles_without_scopes")
				}
				return directory.Grant(m.Roles, p, *in.Roles, permissions(*in.Scopes))
			},
		},
		New: func(_ context.Context, tx *repo.Tx, in *NewKey) (*directory.Key, error) {
			k := &directory.Key{Name: in.Name, Roles: in.Roles, Scopes: permissions(in.Scopes)}
			if in.Expires != nil {
				k.Expires = in.Expires.Time
			}
			k.ID, k.Fresh = in.id, in.secret.Secret
			return k, k.Issue(in.secret, tx.Now(), time.Time{})
		},
		Change: func(_ context.Context, _ *repo.Tx, k *directory.Key, in *KeyChange) error {
			if in.Name != nil {
				k.Name = *in.Name
			}
			if in.Roles != nil {
				k.Roles, k.Scopes = *in.Roles, permissions(*in.Scopes)
				k.Record(directory.KeyChanged{})
			}
			return nil
		},
		View: viewKey,
	}
}

// prepare makes the secret of a new key and announces it.
func (m Admin) prepare(ctx context.Context, in *NewKey) error {
	if err := access.Check(ctx, keysWrite); err != nil {
		return nil // the command is refused, and audited
	}
	p, _ := access.From(ctx)
	if err := directory.Grant(m.Roles, p, in.Roles, permissions(in.Scopes)); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "no id can be made")
	}
	in.id = aggregate.NewID[directory.KeyID]("key", id)
	if in.secret, err = apikey.Generate(rand.Reader); err != nil {
		return err
	}
	return m.Directory.Announce(ctx, p.Tenant, in.id, in.secret)
}

func viewKey(k *directory.Key, meta resource.Meta) KeyView {
	v := KeyView{Meta: meta, Name: k.Name, Roles: k.Roles, Subject: k.Subject, Secrets: []SecretView{}, Secret: k.Fresh.Reveal(), Expires: optional(k.Expires)}
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

// maxOverlap is how long two secrets of a key may be good at most.
const maxOverlap = 30 * 24 * time.Hour

// Rotation is what gives a key a new secret.
type Rotation struct {
	OverlapSeconds int `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" default:"86400" doc:"For how long the old secret stays good."`
}

type rotate struct {
	cqrs.Returns[*directory.Key]
	id      directory.KeyID
	secret  apikey.Key
	overlap time.Duration
}

func (rotate) CommandName() string         { return "api_keys.rotate" }
func (r rotate) Target() (kind, id string) { return directory.Keys.Name, string(r.id) }

// rotation adds the operation that gives a key a new secret.
func (m Admin) rotation(a *api.API, b *cqrs.Bus) {
	cqrs.Handle(b, keysWrite, func(ctx context.Context, tx *repo.Tx, c rotate) (*directory.Key, error) {
		k, err := directory.Keys.Update(ctx, tx, c.id, func(k *directory.Key) error { return k.Issue(c.secret, tx.Now(), tx.Now().Add(c.overlap)) })
		k.Fresh = c.secret.Secret
		return &k, err
	})
	op := api.Operation{ID: "rotate-api-key", Method: http.MethodPost, Path: "/api-keys/{id}/rotate", Summary: "Rotate: api key", Tags: []string{directory.Keys.Name},
		Description: "Gives the key a new secret, which is shown this once. The old one stays good for the overlap, so that no request fails meanwhile.",
		Permission:  keysWrite, Secret: true, Idempotency: api.KeyOptional}
	type out struct {
		ETag string `header:"ETag"`
		Body KeyView
	}
	api.Register(a, op, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"255"`
		Body Rotation
	}) (*out, error) {
		p, _ := access.From(ctx)
		secret, err := apikey.Generate(rand.Reader)
		if err != nil {
			return nil, err
		}
		if err := m.Directory.Announce(ctx, p.Tenant, directory.KeyID(in.ID), secret); err != nil {
			return nil, err
		}
		overlap := min(time.Duration(in.Body.OverlapSeconds)*time.Second, maxOverlap)
		k, err := cqrs.Send(ctx, b, rotate{id: directory.KeyID(in.ID), secret: secret, overlap: overlap})
		if err != nil {
			return nil, err
		}
		return &out{api.ETag(k.Version), viewKey(k, resource.MetaOf("api_key", &k.Root))}, nil
	})
}
