package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// streamDue is where it is said that a delivery has something to do.
const streamDue = "webhooks"

// StreamName is the name of that stream.
const StreamName = "WEBHOOKS"

// Stream is the stream of those messages. It keeps what nobody has handled.
func Stream(replicas int, duplicates time.Duration) queue.Stream {
	return queue.Stream{Name: StreamName, Subjects: []string{streamDue + ".>"}, Retention: queue.Work, Discard: queue.Refuse, Replicas: replicas, Duplicates: duplicates}
}

// Schemas is what the store's migration has to know.
func Schemas() []*repo.Schema {
	return []*repo.Schema{Endpoints.Schema(), Deliveries.Schema(), Healths.Schema(), positions.Schema()}
}

// Expiring are the kinds of which things end by themselves.
func Expiring() []string { return []string{Deliveries.Name, Healths.Name} }

// DeliveryOf is the id of the delivery of an event to an endpoint: always the same.
func DeliveryOf(endpoint EndpointID, event string) DeliveryID {
	name := []byte(string(endpoint) + " " + event)
	return aggregate.NewID[DeliveryID]("whd", uuid.NewHash(sha256.New(), uuid.Nil, name, 8))
}

// Accept makes the delivery of an event to an endpoint, and says that it is due.
// It fails with repo.ErrExists where there is one already.
func Accept(ctx context.Context, tx *repo.Tx, endpoint EndpointID, m *repo.Message) (*Delivery, error) {
	body, err := encodeBody(m)
	if err != nil {
		return nil, err
	}
	d := &Delivery{Endpoint: endpoint, Event: m.ID, Type: m.Type, Kind: m.Kind, Subject: m.Key.ID, Sequence: m.Sequence, Body: body}
	d.ID = DeliveryOf(endpoint, m.ID)
	d.accept(tx.Now())
	if err := Deliveries.Add(ctx, tx, d); err != nil {
		return nil, err
	}
	return d, Announce(tx, d)
}

// TypeTest is the type of the event that only tests an endpoint.
const TypeTest = "webhook.test"

// Test sends an endpoint an event that says nothing, whatever it wants to be told
// of.
func Test(ctx context.Context, tx *repo.Tx, id EndpointID) (*Delivery, error) {
	if err := callable(ctx, tx, id); err != nil {
		return nil, err
	}
	return Accept(ctx, tx, id, &repo.Message{ID: repo.NewID[string](tx, "evt"), Key: repo.Key{Kind: Endpoints.Name, ID: string(id)},
		Type: TypeTest, Version: 1, Time: tx.Now(), Data: json.RawMessage(`{}`)})
}

// Resend sends a delivery again that is final.
func Resend(ctx context.Context, tx *repo.Tx, id DeliveryID) (*Delivery, error) {
	d, err := Deliveries.Get(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	if err := callable(ctx, tx, d.Endpoint); err != nil {
		return nil, err
	}
	if d, err = Deliveries.Update(ctx, tx, id, func(d *Delivery) error { return d.Replay(tx.Now()) }); err != nil {
		return nil, err
	}
	return &d, Announce(tx, &d)
}

// callable refuses endpoints that are not called.
func callable(ctx context.Context, from repo.Reading, id EndpointID) error {
	e, err := Endpoints.Get(ctx, from, id)
	if err == nil && e.Disabled {
		return fault.New(fault.Conflict, "the endpoint is disabled: enable it first").WithCode("webhook_disabled")
	}
	return err
}

// Notice is what the queue says of a delivery.
type Notice struct {
	Endpoint EndpointID `json:"endpoint"`
}

// Announce says in the queue that a delivery may have something to do.
func Announce(tx *repo.Tx, d *Delivery) error {
	data, err := json.Marshal(Notice{d.Endpoint})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a notice cannot be encoded")
	}
	return tx.Publish(repo.Message{Stream: streamDue, Type: "webhook_delivery.due", Key: repo.Key{Kind: Deliveries.Name, ID: string(d.ID)}, Data: data})
}
