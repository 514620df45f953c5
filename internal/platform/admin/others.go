package admin

import (
	"context"
	"crypto/rand"

	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/flag"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
	"sluice/internal/platform/webhook"
)

// NewFlag is what makes a feature flag.
type NewFlag struct {
	Key         string `json:"key" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9_.-]*$" doc:"Names the flag in the program."`
	Description string `json:"description,omitempty" maxLength:"500"`
	Enabled     bool   `json:"enabled,omitempty"`
	Percent     *int   `json:"percent,omitempty" minimum:"0" maximum:"100" doc:"The share of units for which an enabled flag is on; 100 without it."`
}

// FlagChange is what changes one; what is left out stays.
type FlagChange struct {
	Description *string `json:"description,omitempty" maxLength:"500"`
	Enabled     *bool   `json:"enabled,omitempty"`
	Percent     *int    `json:"percent,omitempty" minimum:"0" maximum:"100"`
}

// FlagView is what is shown of one.
type FlagView struct {
	resource.Meta
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
	Percent     int    `json:"percent"`
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func flags() resource.Resource[flag.Key, flag.Flag, NewFlag, FlagChange, FlagView] {
	return resource.Resource[flag.Key, flag.Flag, NewFlag, FlagChange, FlagView]{
		Kind: flag.Flags, Singular: "feature_flag", Read: flagsRead, Write: flagsWrite,
		Description: "A feature flag turns something on without a deployment, for everybody or for a share of units that stays the same.",
		New: func(_ context.Context, _ *repo.Tx, in *NewFlag) (*flag.Flag, error) {
			return flag.New(flag.Key(in.Key), in.Description, in.Enabled, or(in.Percent, 100))
		},
		Change: func(_ context.Context, _ *repo.Tx, f *flag.Flag, in *FlagChange) error {
			f.Description = or(in.Description, f.Description)
			return f.Set(or(in.Enabled, f.Enabled), or(in.Percent, f.Percent))
		},
		View: func(f *flag.Flag, m resource.Meta) FlagView { return FlagView{m, f.Description, f.Enabled, f.Percent} },
	}
}

// NewWebhook is what makes a webhook endpoint.
type NewWebhook struct {
	URL    string   `json:"url" minLength:"1" maxLength:"2048" format:"uri" doc:"An https address."`
	Events []string `json:"events" minItems:"1" maxItems:"50" doc:"Types of events: batch.completed, batch.* or *."`

	secret secret.Text
}

// WebhookChange is what changes one; what is left out stays.
type WebhookChange struct {
	URL      *string   `json:"url,omitempty" maxLength:"2048" format:"uri"`
	Events   *[]string `json:"events,omitempty" minItems:"1" maxItems:"50"`
	Disabled *bool     `json:"disabled,omitempty"`
}

// WebhookView is what is shown of one.
type WebhookView struct {
	resource.Meta
	URL      string   `json:"url"`
	Events   []string `json:"events"`
	Disabled bool     `json:"disabled"`
	Secret   string   `json:"secret,omitempty" doc:"Signs what is sent, as Standard Webhooks has it. It is shown this once."`
}

func webhooks() resource.Resource[webhook.EndpointID, webhook.Endpoint, NewWebhook, WebhookChange, WebhookView] {
	return resource.Resource[webhook.EndpointID, webhook.Endpoint, NewWebhook, WebhookChange, WebhookView]{
		Kind: webhook.Endpoints, Singular: "webhook_endpoint", Prefix: "whk", Read: webhooksRead, Write: webhooksWrite, Secret: true,
		Description: "A webhook endpoint is an address that is told of events.",
		Hooks: resource.Hooks[NewWebhook, WebhookChange, webhook.Endpoint]{
			BeforeCreate: func(_ context.Context, in *NewWebhook) (err error) {
				in.secret, err = webhook.NewSecret(rand.Reader)
				return err
			},
		},
		New: func(_ context.Context, _ *repo.Tx, in *NewWebhook) (*webhook.Endpoint, error) {
			e := &webhook.Endpoint{Secrets: []string{in.secret.Reveal()}, Fresh: in.secret}
			return e, e.Set(in.URL, in.Events, false)
		},
		Change: func(_ context.Context, _ *repo.Tx, e *webhook.Endpoint, in *WebhookChange) error {
			return e.Set(or(in.URL, e.URL), or(in.Events, e.Events), or(in.Disabled, e.Disabled))
		},
		View: func(e *webhook.Endpoint, m resource.Meta) WebhookView {
			return WebhookView{m, e.URL, e.Events, e.Disabled, e.Fresh.Reveal()}
		},
	}
}

// EntryView is what is shown of an audit entry.
type EntryView struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Index   int64    `json:"index" doc:"Its place in the log, from 0: what an inclusion proof is about."`
	Time    api.Time `json:"time"`
	Actor   string   `json:"actor"`
	Action  string   `json:"action"`
	Kind    string   `json:"kind,omitempty"`
	Thing   string   `json:"resource,omitempty" doc:"The id of what it was done to."`
	Outcome string   `json:"outcome" enum:"ok,denied,failed"`
	Code    string   `json:"code,omitempty" doc:"Why it was denied or failed."`
	Request string   `json:"request_id,omitempty"`
	Change  string   `json:"change,omitempty" doc:"A commitment to what was changed."`
}

func entries() resource.Resource[trail.EntryID, trail.Entry, struct{}, struct{}, EntryView] {
	return resource.Resource[trail.EntryID, trail.Entry, struct{}, struct{}, EntryView]{
		Kind: trail.Entries, Singular: "audit_entry", Read: trail.Read, Write: trail.Read,
		Description: "The audit log has an entry for every command and every denial. Search it by actor, action, kind, resource, outcome and time.",
		View: func(e *trail.Entry, m resource.Meta) EntryView {
			return EntryView{m.ID, m.Object, e.Index, api.Time{Time: e.Time}, e.Actor, e.Action, e.Kind, e.Resource, string(e.Outcome), e.Code, e.Request, e.Change}
		},
	}
}
