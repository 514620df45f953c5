package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
	"sluice/internal/platform/webhook"
)

// NewWebhook is what makes a webhook endpoint.
type NewWebhook struct {
	URL    string   `json:"url" minLength:"1" maxLength:"2048" format:"uri" doc:"An https address."`
	Events []string `json:"events" minItems:"1" maxItems:"50" doc:"Types of events: batch.completed, batch.* or *."`
	Order  string   `json:"order,omitempty" enum:"subject,none" default:"subject" doc:"subject: what happens to one thing is told in its order, so that what cannot be delivered holds up what follows it, for as long as it is tried again. none: deliveries may overtake each other."`

	secret secret.Text
}

// WebhookChange is what changes one; what is left out stays.
type WebhookChange struct {
	URL      *string   `json:"url,omitempty" maxLength:"2048" format:"uri"`
	Events   *[]string `json:"events,omitempty" minItems:"1" maxItems:"50"`
	Order    *string   `json:"order,omitempty" enum:"subject,none"`
	Disabled *bool     `json:"disabled,omitempty"`
}

// WebhookView is what is shown of one.
type WebhookView struct {
	resource.Meta
	URL            string   `json:"url"`
	Events         []string `json:"events"`
	Order          string   `json:"order" enum:"subject,none"`
	Disabled       bool     `json:"disabled"`
	DisabledReason string   `json:"disabled_reason,omitempty" enum:"gone,failing" doc:"Why the platform has disabled it: it answered 410, or nothing has reached it for days."`
	Secret         string   `json:"secret,omitempty" doc:"Signs what is sent, as Standard Webhooks has it. It is shown this once."`
}

func viewWebhook(e *webhook.Endpoint, m resource.Meta) WebhookView {
	return WebhookView{m, e.URL, e.Events, order(e), e.Disabled, string(e.Reason), e.Fresh.Reveal()}
}

// unordered is the order of an endpoint that wants none.
const unordered = "none"

func order(e *webhook.Endpoint) string {
	if e.Unordered {
		return unordered
	}
	return "subject"
}

func webhooks(keys *seal.Ring) resource.Resource[webhook.EndpointID, webhook.Endpoint, NewWebhook, WebhookChange, WebhookView] {
	return resource.Resource[webhook.EndpointID, webhook.Endpoint, NewWebhook, WebhookChange, WebhookView]{
		Kind: webhook.Endpoints, Singular: "webhook_endpoint", Read: webhooksRead, Write: webhooksWrite, Secret: true,
		Description: "A webhook endpoint is an address that is told of events, in the form of Standard Webhooks 1.0.0. Only addresses of the public internet are called.",
		Hooks: resource.Hooks[NewWebhook, WebhookChange, webhook.Endpoint]{
			BeforeCreate: func(_ context.Context, in *NewWebhook) (err error) {
				in.secret, err = webhook.NewSecret(rand.Reader)
				return err
			},
		},
		New: func(_ context.Context, tx *repo.Tx, in *NewWebhook) (*webhook.Endpoint, error) {
			e := &webhook.Endpoint{}
			e.ID = repo.NewID[webhook.EndpointID](tx, "whk") // here, since its secret is sealed for it
			e.Begin(keys, in.secret)
			e.Unordered = in.Order == unordered
			return e, e.Set(in.URL, in.Events, false)
		},
		Change: func(_ context.Context, _ *repo.Tx, e *webhook.Endpoint, in *WebhookChange) error {
			e.SetOrder(or(in.Order, order(e)) == unordered)
			return e.Set(or(in.URL, e.URL), or(in.Events, e.Events), or(in.Disabled, e.Disabled))
		},
		View: viewWebhook,
	}
}

// AttemptView is what is shown of an attempt; what the receiver answered is never
// kept, but for the status.
type AttemptView struct {
	At         api.Time `json:"at"`
	DurationMS int64    `json:"duration_ms"`
	Status     int      `json:"status,omitempty" doc:"Of HTTP; missing where there was no answer."`
	Error      string   `json:"error,omitempty" doc:"Why it failed: bad_status, redirected, gone, throttled, timeout, refused, broken, no_such_host, tls, forbidden, unsendable or interrupted."`
}

// DeliveryView is what is shown of a delivery.
type DeliveryView struct {
	resource.Meta
	Endpoint    string        `json:"endpoint"`
	Event       string        `json:"event" doc:"The id of the event, which is the webhook-id."`
	Type        string        `json:"type"`
	SubjectKind string        `json:"subject_kind"`
	Subject     string        `json:"subject" doc:"What the event happened to."`
	Sequence    int64         `json:"sequence" doc:"Of the event among those of its subject."`
	Status      string        `json:"status" enum:"pending,sending,delivered,failed,cancelled"`
	Attempts    []AttemptView `json:"attempts" doc:"The latest 20."`
	NextAttempt *api.Time     `json:"next_attempt_at,omitempty"`
	CompletedAt *api.Time     `json:"completed_at,omitempty"`
	ExpiresAt   *api.Time     `json:"expires_at,omitempty" doc:"When it is forgotten."`
}

func viewDelivery(d *webhook.Delivery, m resource.Meta) DeliveryView {
	v := DeliveryView{Meta: m, Endpoint: string(d.Endpoint), Event: d.Event, Type: d.Type, SubjectKind: d.Kind, Subject: d.Subject, Sequence: d.Sequence,
		Status: string(d.Status), Attempts: make([]AttemptView, len(d.Attempts)), CompletedAt: optional(d.CompletedAt), ExpiresAt: optional(d.Keep)}
	for i, a := range d.Attempts {
		v.Attempts[i] = AttemptView{api.Time{Time: a.At}, a.DurationMS, a.Status, string(a.Error)}
	}
	if d.Status == webhook.Pending {
		v.NextAttempt = optional(d.Next)
	}
	return v
}

func deliveries() resource.Resource[webhook.DeliveryID, webhook.Delivery, struct{}, struct{}, DeliveryView] {
	return resource.Resource[webhook.DeliveryID, webhook.Delivery, struct{}, struct{}, DeliveryView]{
		Kind: webhook.Deliveries, Singular: deliveryObject, Read: webhooksRead, Write: webhooksWrite,
		Description: "A delivery is an event on its way to a webhook endpoint. It can be looked up for 7 days from its end on. Filter by endpoint, status, event, type, created and next_attempt.",
		View:        viewDelivery,
	}
}

const deliveryObject = "webhook_delivery"

// Commands about endpoints and deliveries.
type (
	rotateSecret struct {
		cqrs.Returns[*webhook.Endpoint]
		id      webhook.EndpointID
		fresh   secret.Text
		overlap time.Duration
	}
	testWebhook struct {
		cqrs.Returns[*webhook.Delivery]
		id webhook.EndpointID
	}
	replayDelivery struct {
		cqrs.Returns[*webhook.Delivery]
		id webhook.DeliveryID
	}
)

func (rotateSecret) CommandName() string           { return "webhook_endpoints.rotate_secret" }
func (c rotateSecret) Target() (kind, id string)   { return webhook.Endpoints.Name, string(c.id) }
func (testWebhook) CommandName() string            { return "webhook_endpoints.test" }
func (c testWebhook) Target() (kind, id string)    { return webhook.Endpoints.Name, string(c.id) }
func (replayDelivery) CommandName() string         { return "webhook_deliveries.replay" }
func (c replayDelivery) Target() (kind, id string) { return webhook.Deliveries.Name, string(c.id) }

// SecretRotation is what gives an endpoint a new secret.
type SecretRotation struct {
	OverlapSeconds *int `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"For how long the old secret signs beside the new one: a day without it, and not at all with 0, after a leak."`
}

// calling adds what is done with endpoints and deliveries.
func calling(a *api.API, b *cqrs.Bus, keys *seal.Ring) {
	cqrs.Handle(b, webhooksWrite, func(ctx context.Context, tx *repo.Tx, c rotateSecret) (*webhook.Endpoint, error) {
		e, err := webhook.Endpoints.Update(ctx, tx, c.id, func(e *webhook.Endpoint) error { e.Rotate(keys, c.fresh, tx.Now(), c.overlap); return nil })
		return &e, err
	})
	cqrs.Handle(b, webhooksWrite, func(ctx context.Context, tx *repo.Tx, c testWebhook) (*webhook.Delivery, error) {
		return webhook.Test(ctx, tx, c.id)
	})
	cqrs.Handle(b, webhooksWrite, func(ctx context.Context, tx *repo.Tx, c replayDelivery) (*webhook.Delivery, error) {
		return webhook.Resend(ctx, tx, c.id)
	})
	op := func(id, path, summary, about string) api.Operation {
		return api.Operation{ID: id, Method: http.MethodPost, Path: path, Summary: summary, Description: about, Permission: webhooksWrite, Idempotency: api.KeyOptional}
	}
	rotate := op("rotate-webhook-secret", "/webhook-endpoints/{id}/rotate-secret", "Rotate: secret of a webhook endpoint",
		"Gives the endpoint a new secret, which is shown this once. The old one signs beside it for the overlap, so that the receiver can change in its own time.")
	rotate.Tags, rotate.Secret = []string{webhook.Endpoints.Name}, true
	type rotated struct {
		ETag string `header:"ETag"`
		Body WebhookView
	}
	api.Register(a, rotate, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"255"`
		Body SecretRotation
	}) (*rotated, error) {
		fresh, err := webhook.NewSecret(rand.Reader)
		if err != nil {
			return nil, err
		}
		e, err := cqrs.Send(ctx, b, rotateSecret{id: webhook.EndpointID(in.ID), fresh: fresh, overlap: overlap(in.Body.OverlapSeconds)})
		if err != nil {
			return nil, err
		}
		return &rotated{api.ETag(e.Version), viewWebhook(e, resource.MetaOf("webhook_endpoint", &e.Root))}, nil
	})
	type in struct {
		ID string `path:"id" maxLength:"255"`
	}
	type sent struct{ Body DeliveryView }
	answer := func(d *webhook.Delivery, err error) (*sent, error) {
		if err != nil {
			return nil, err
		}
		return &sent{viewDelivery(d, resource.MetaOf(deliveryObject, &d.Root))}, nil
	}
	test := op("test-webhook-endpoint", "/webhook-endpoints/{id}/test", "Test: webhook endpoint",
		"Sends the endpoint an event of type webhook.test, whatever it wants to be told of. The delivery that is answered says what became of it.")
	test.Tags, test.Status = []string{webhook.Endpoints.Name}, http.StatusAccepted
	api.Register(a, test, func(ctx context.Context, in *in) (*sent, error) {
		return answer(cqrs.Send(ctx, b, testWebhook{id: webhook.EndpointID(in.ID)}))
	})
	replay := op("replay-webhook-delivery", "/webhook-deliveries/{id}/replay", "Replay: webhook delivery",
		"Sends the event again, with the same webhook-id and body, whether it was delivered or not. The schedule of attempts begins anew.")
	replay.Tags, replay.Status = []string{webhook.Deliveries.Name}, http.StatusAccepted
	api.Register(a, replay, func(ctx context.Context, in *in) (*sent, error) {
		return answer(cqrs.Send(ctx, b, replayDelivery{id: webhook.DeliveryID(in.ID)}))
	})
}
