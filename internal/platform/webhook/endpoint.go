// Package webhook has the endpoints that a tenant wants to be told of events at.
//
// Limits: an endpoint is registered here and not called yet; nothing delivers
// events so far.
package webhook

import (
	"encoding/base64"
	"io"
	"net/url"
	"regexp"
	"slices"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// EndpointID is the id of an endpoint.
type EndpointID string

// Endpoint is an address that wants to be told.
type Endpoint struct {
	aggregate.Root[EndpointID]
	URL    string   `json:"url"`
	Events []string `json:"events"` // types of events; "batch.*" is all of batch's, "*" all
	// Secrets sign what is sent, in the form of Standard Webhooks, the newest last.
	Secrets  []string `json:"secrets"`
	Disabled bool     `json:"disabled,omitempty"`
	// Fresh is the secret that was just made, for its holder; it is not stored
	// here.
	Fresh secret.Text `json:"-"`
}

// Endpoints keeps them.
var Endpoints = repo.Kind[EndpointID, Endpoint]{
	Name: "webhook_endpoints", Root: func(e *Endpoint) *aggregate.Root[EndpointID] { return &e.Root },
	Columns: []spec.Column[Endpoint]{
		spec.TextField("url", func(e *Endpoint) string { return e.URL }),
		spec.BoolField("disabled", func(e *Endpoint) bool { return e.Disabled }),
	},
}

// Changed says that an endpoint was made or changed; what it is, is nobody's business.
type Changed struct {
	Disabled bool `json:"disabled"`
}

// EventType implements aggregate.Event.
func (Changed) EventType() string { return "webhook_endpoint.changed" }

// Set changes where and of what the endpoint is told.
func (e *Endpoint) Set(address string, events []string, disabled bool) error {
	if err := CheckURL(address); err != nil {
		return err
	}
	for _, t := range events {
		if !pattern.MatchString(t) {
			return fault.New(fault.Unprocessable, "%q is no type of events, such as batch.completed, batch.* or *", fault.Clip(t, 80)).WithCode("event_type_malformed")
		}
	}
	if e.Version == 0 || address != e.URL || !slices.Equal(events, e.Events) || disabled != e.Disabled {
		e.URL, e.Events, e.Disabled = address, events, disabled
		e.Record(Changed{disabled})
	}
	return nil
}

var pattern = regexp.MustCompile(`^(\*|[a-z_]{1,40}\.(\*|[a-z_]{1,40}))$`)

// CheckURL refuses addresses that no webhook may have: it must be https, without
// a user, and a fragment would never arrive. Which machine it leads to is checked
// when it is called, for names change.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || len(address) > 2048 {
		return fault.New(fault.Unprocessable, "the address of a webhook must be https://host/path of at most 2048 bytes, without user and fragment").
			WithCode("webhook_url_invalid").WithDetails(fault.Detail{Pointer: "#/url", Code: "webhook_url_invalid", Message: "not an acceptable address"})
	}
	return nil
}

// secretBytes is what Standard Webhooks recommends: 24 to 64.
const secretBytes = 32

// NewSecret makes a signing secret in the form of Standard Webhooks.
func NewSecret(random io.Reader) (secret.Text, error) {
	b := make([]byte, secretBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return secret.Text{}, fault.Wrap(fault.Internal, err, "no secret can be made")
	}
	return secret.Of("whsec_" + base64.StdEncoding.EncodeToString(b)), nil
}
