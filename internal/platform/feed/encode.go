package feed

import (
	"encoding/json"
	"time"

	"sluice/internal/platform/fault"
)

// SSE returns the event as a server-sent event (HTML Standard, 9.2.5). It is
// shared: do not change it.
func (e *Event) SSE() []byte {
	e.sse.once.Do(func() {
		b := make([]byte, 0, len(e.Data)+len(e.Type)+96)
		if !e.Cursor.IsZero() {
			b = append(e.Cursor.append(append(b, "id: "...)), '\n')
		}
		b = append(append(append(b, "event: "...), e.Type...), "\ndata: "...)
		e.sse.b = append(append(b, e.Data...), "\n\n"...)
	})
	return e.sse.b
}

// Frame returns the event as a JSON object with type "event", for transports of
// messages. It is shared: do not change it.
func (e *Event) Frame() []byte {
	e.frame.once.Do(func() {
		b := make([]byte, 0, len(e.Data)+len(e.Type)+128)
		b = append(b, `{"type":"event"`...)
		if !e.Cursor.IsZero() {
			b = append(e.Cursor.append(append(b, `,"id":"`...)), '"')
		}
		b = append(append(b, `,"event":`...), quote(e.Type)...)
		b = append(append(b, `,"data":`...), e.Data...)
		e.frame.b = append(b, '}')
	})
	return e.frame.b
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string always can be
	return b
}

// Gap is the data of a gap event.
type Gap struct {
	From   string `json:"from"`   // the cursor after which events are missing
	To     string `json:"to"`     // the last that is missing, or the position to go on behind
	Reason string `json:"reason"` // one of the reasons below
}

// Reasons for gaps.
const (
	ReasonExpired   = "expired"       // the source no longer keeps the events
	ReasonEpoch     = "epoch_changed" // the cursor is of another incarnation of the stream
	ReasonTruncated = "truncated"     // the source has lost its latest events
	ReasonSlow      = "slow_consumer" // dropped by the policy drop_oldest, or a topic let go of them
	ReasonMalformed = "malformed"     // what is stored there is no event
)

// NewGap returns a gap event: what is behind from, up to and with to, is missing.
func NewGap(from, to Cursor, reason string, at time.Time) *Event {
	data, _ := json.Marshal(Gap{From: from.String(), To: to.String(), Reason: reason}) // strings always can be
	return &Event{Cursor: to, Type: TypeGap, Time: at, Data: data}
}

// NewError returns the event that tells a client why its stream ends.
func NewError(err error, at time.Time) *Event {
	f := fault.Of(err)
	data, _ := json.Marshal(struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Retryable bool   `json:"retryable"`
	}{fault.CodeOf(err), f.Text(), f.Kind.Retryable()})
	return &Event{Type: TypeError, Time: at, Data: data}
}

func newEnd(at Cursor, when time.Time) *Event {
	return &Event{Cursor: at, Type: TypeEnd, Time: when, Data: json.RawMessage(`{}`)}
}
