// Package aggregate is what every aggregate has: an identity, the tenant that
// it belongs to, a version, who made and changed it and when, and the events
// that say what happened to it.
//
// An aggregate is a struct that embeds a Root and guards its own rules in its
// methods. It knows no store: package repo keeps it, and counts its versions.
package aggregate

import (
	"time"

	"sluice/internal/platform/fault"
)

// Root is the part that all aggregates share. Its fields are set by the store;
// methods of an aggregate read them and record events.
type Root[ID ~string] struct {
	ID      ID     `json:"-"`
	Tenant  string `json:"-"` // empty for what belongs to the platform
	Version int64  `json:"-"` // 1 once stored, one more with every change
	// Sequence is the number of events that were ever recorded and stored.
	Sequence  int64     `json:"-"`
	CreatedAt time.Time `json:"-"`
	CreatedBy string    `json:"-"` // a principal's id
	UpdatedAt time.Time `json:"-"`
	UpdatedBy string    `json:"-"`
	DeletedAt time.Time `json:"-"` // zero unless deleted

	events []Event
}

// Event is something that happened to an aggregate. Its exported fields are
// its payload, as JSON; they name no person and hold no secret.
type Event interface {
	// EventType is the event's stable name, "tenant.created" say.
	EventType() string
}

// Versioned is an Event whose payload has changed its form over time. Events
// that are not Versioned have version 1.
type Versioned interface {
	Event
	EventVersion() int
}

// VersionOf returns the version of an event's payload.
func VersionOf(e Event) int {
	if v, ok := e.(Versioned); ok {
		return v.EventVersion()
	}
	return 1
}

// Record adds an event to those that are stored, and published, with the
// aggregate's next change.
func (r *Root[ID]) Record(e Event) { r.events = append(r.events, e) }

// Events returns what was recorded since the aggregate was read.
func (r *Root[ID]) Events() []Event { return r.events }

// TakeEvents returns what was recorded since the aggregate was read, and
// forgets it.
func (r *Root[ID]) TakeEvents() []Event {
	events := r.events
	r.events = nil
	return events
}

// Adopt takes over what a store has set in a copy of the aggregate; the recorded
// events stay.
func (r *Root[ID]) Adopt(stored *Root[ID]) {
	events := r.events
	*r = *stored
	r.events = events
}

// Deleted says whether the aggregate is deleted.
func (r *Root[ID]) Deleted() bool { return !r.DeletedAt.IsZero() }

// Expect refuses a change that was made for another version than this one.
func (r *Root[ID]) Expect(version int64) error {
	if r.Version == version {
		return nil
	}
	return fault.New(fault.PreconditionFailed, "version %d was expected, but there is version %d: read it again and repeat the change", version, r.Version).
		WithCode("version_mismatch")
}
