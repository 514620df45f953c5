// Package webhook tells a tenant's endpoints of events, in the form of Standard
// Webhooks 1.0.0: which endpoint wants which events, what is sent and how it is
// signed, and when it is sent again.
//
// An event and an endpoint make one Delivery, whose id follows from both: events
// that come twice are delivered as one. The store is the truth; package deliver
// carries deliveries out, and package send speaks HTTP.
//
// The secrets that sign are sealed in the store with keys that lie elsewhere.
//
// Deliveries to one endpoint of what happened to one subject keep its order, unless
// the endpoint wants otherwise: see turn.go.
package webhook

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

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
	// Secrets sign what is sent, the newest last.
	Secrets  []Secret `json:"secrets"`
	Disabled bool     `json:"disabled,omitempty"`
	// Reason is why the platform itself has disabled the endpoint.
	Reason Reason `json:"reason,omitempty"`
	// Unordered lets the deliveries of a subject overtake each other.
	Unordered bool `json:"unordered,omitempty"`
	// Fresh is the secret that was just made, for its holder; it is not stored
	// here.
	Fresh secret.Text `json:"-"`
}

// Reason is why the platform disables an endpoint.
type Reason string

// The reasons.
const (
	Gone    Reason = "gone"    // it answered 410
	Failing Reason = "failing" // nothing has reached it for days
)

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

// Disabled says that the platform calls an endpoint no more.
type Disabled struct {
	Reason Reason `json:"reason"`
}

// EventType implements aggregate.Event.
func (Disabled) EventType() string { return "webhook_endpoint.disabled" }

// SecretRotated says that an endpoint has a new secret, and until when the one
// before is good.
type SecretRotated struct {
	Overlap time.Time `json:"overlap_until"`
}

// EventType implements aggregate.Event.
func (SecretRotated) EventType() string { return "webhook_endpoint.secret_rotated" }

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
		if !disabled {
			e.Reason = ""
		}
		e.Record(Changed{disabled})
	}
	return nil
}

// SetOrder says whether deliveries of a subject wait for those before them.
func (e *Endpoint) SetOrder(unordered bool) {
	if e.Unordered != unordered {
		e.Unordered = unordered
		e.Record(Changed{e.Disabled})
	}
}

// Wants says whether the endpoint is to be told of events of the type.
func (e *Endpoint) Wants(eventType string) bool {
	return !e.Disabled && slices.ContainsFunc(e.Events, func(p string) bool {
		group, all := strings.CutSuffix(p, "*")
		return p == eventType || all && strings.HasPrefix(eventType, group)
	})
}

// Disable has the platform call the endpoint no more.
func (e *Endpoint) Disable(why Reason) {
	if !e.Disabled {
		e.Disabled, e.Reason = true, why
		e.Record(Disabled{why})
	}
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
