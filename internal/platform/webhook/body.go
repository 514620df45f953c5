package webhook

import (
	"encoding/json"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// MaxBody is the most bytes of what an endpoint is sent, as Standard Webhooks
// recommends. Events that are larger are told of without what they hold.
const MaxBody = 20_000

// Body is what an endpoint is sent: what Standard Webhooks asks for.
type Body struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"` // of the event; that of the attempt is in a header
	Data      Data      `json:"data"`
}

// Data is an event with what it happened to.
type Data struct {
	Kind string `json:"kind"` // "predictions"
	ID   string `json:"id"`   // of what it happened to
	// Sequence counts the events of this subject from 1 without a gap. An endpoint
	// is told of them in this order, but for what it does not want, what is replayed
	// and what never reached it. 0 where the event is no aggregate's.
	Sequence int64           `json:"sequence"`
	Version  int             `json:"version"` // of the form of Event
	Event    json.RawMessage `json:"event,omitempty"`
	// Omitted says that Event was too large to be sent: read the subject, or the
	// event by the webhook's id.
	Omitted bool `json:"omitted,omitempty"`
}

// encodeBody returns what is sent of an event.
func encodeBody(m *repo.Message) (json.RawMessage, error) {
	b := Body{m.Type, m.Time.UTC(), Data{Kind: m.Kind, ID: m.Key.ID, Sequence: m.Sequence, Version: m.Version, Event: m.Data}}
	text, err := json.Marshal(b)
	if err == nil && len(text) >= MaxBody {
		b.Data.Event, b.Data.Omitted = nil, true
		text, err = json.Marshal(b)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the event %s is no JSON", m.ID).WithCode("event_malformed")
	}
	return text, nil
}
