package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// Rotation is what gives a key a new secret.
type Rotation struct {
	OverlapSeconds *int `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"For how long the old secret stays good: a day without it, and not at all with 0, after a leak."`
}

// overlap is for how long an old secret stays good: a day where the client does not choose.
func overlap(seconds *int) time.Duration {
	if seconds == nil {
		return 24 * time.Hour
	}
	return time.Duration(*seconds) * time.Second
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
		k, err := directory.Keys.Update(ctx, tx, c.id, func(k *directory.Key) error {
			if err := m.rotatable(ctx, k); err != nil {
				return err
			}
			return k.Issue(c.secret, tx.Now(), tx.Now().Add(c.overlap))
		})
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
		c := rotate{id: directory.KeyID(in.ID), overlap: overlap(in.Body.OverlapSeconds)}
		var err error
		if c.secret, err = apikey.Generate(rand.Reader); err != nil {
			return nil, err
		}
		// The key is looked at before, lest the index fills with what opens nothing.
		if k, err := directory.Keys.Get(ctx, m.Directory.Reading(p.Tenant), c.id); err == nil && m.rotatable(ctx, &k) == nil {
			if err := m.Directory.Announce(ctx, p.Tenant, c.id, c.secret, time.Time{}); err != nil {
				return nil, err
			}
		}
		k, err := cqrs.Send(ctx, b, c)
		if err != nil {
			return nil, err
		}
		return &out{api.ETag(k.Version), viewKey(k, resource.MetaOf("api_key", &k.Root))}, nil
	})
}

// rotatable refuses to hand out a secret of a key that may do more than who asks.
func (m Admin) rotatable(ctx context.Context, k *directory.Key) error {
	p, ok := access.From(ctx)
	switch {
	case !ok:
		return access.ErrNoCredential
	case k.Subject != "":
		return errSession
	}
	return directory.Command(m.Roles, p, k.Roles, k.Scopes)
}
