package repo

import (
	"encoding/json"
	"time"
)

// Streams that messages are published to.
const (
	StreamEvents = "events" // what happened to aggregates
	StreamAudit  = "audit"  // who did or tried what
)

// Message is an entry of the outbox: an aggregate's event, or a message of its
// own. It is what consumers receive.
type Message struct {
	ID  string             `json:"id"` // evt_…; consumers recognise repetitions by it
	Key `json:"aggregate"` // of the aggregate
	// Sequence counts an aggregate's events from 1 without a gap; 0 for messages
	// that are no aggregate's event.
	Sequence int64     `json:"sequence,omitempty"`
	Stream   string    `json:"stream"`
	Type     string    `json:"type"`    // "tenant.created"
	Version  int       `json:"version"` // of the form of Data
	Time     time.Time `json:"time"`

	Actor       string `json:"actor,omitempty"`       // the principal's id
	Request     string `json:"request,omitempty"`     // the id of the request that caused it
	Correlation string `json:"correlation,omitempty"` // of all that one request has set in motion
	Causation   string `json:"causation,omitempty"`   // the id of the message that caused it
	TraceParent string `json:"traceparent,omitempty"` // W3C Trace Context

	Data json.RawMessage `json:"data"`
	// Keep makes the message a part of the aggregate's history, for event-sourced
	// aggregates.
	Keep bool `json:"-"`
}
