// Package feature is the online feature store: what is known of entities, users or
// products say, kept by view, entity and the time from which it is true, and the
// inputs of models made of it.
//
// A row says all that a view has of an entity from its event time on; what it leaves
// out is missing. Rows are never changed: one that comes later for the same event time
// corrects it. So what was known at any time can be read again: of the rows that were
// written by then, the latest whose event time had come. A row that comes late is not
// in any answer as of a time before it came.
//
// Limits: times are those of the clocks of the processes that write, to the
// microsecond. There is no computing of features here: rows are brought. A row is
// forgotten once its view's time to keep it is over.
package feature

import (
	"context"
	"encoding/json"
	"time"

	"sluice/internal/platform/fault"
)

// Key names what a view has of an entity. View is the name of the view's rows, see
// View.Rows.
type Key struct{ View, Entity string }

// Row is what is known of an entity from its event time on.
type Row struct {
	Entity    string
	EventTime time.Time // UTC, in whole microseconds
	Values    json.RawMessage
	Written   time.Time // when it was; zero for one that is not yet
}

// Store keeps rows, of all tenants. It is safe for concurrent use, also by several
// processes.
type Store interface {
	// Write keeps rows of a view as written at a time, all of them or, where it fails,
	// maybe some: to write them again changes nothing that is read. Each is forgotten so
	// long after its event time, with all that are older. Of the zero time they are written
	// now: what has been read as of any time is not changed by them, see Clock.
	Write(ctx context.Context, tenant, view string, rows []Row, written time.Time, keep time.Duration) error
	// Read returns for each key the row that was known as of a time: the latest by event
	// time, and then by when it was written, with neither behind asOf. What has none is
	// the zero Row.
	Read(ctx context.Context, tenant string, keys []Key, asOf time.Time) ([]Row, error)
	// Forget removes all rows of an entity.
	Forget(ctx context.Context, tenant string, key Key) error
	// Expire removes rows whose time is over. It may leave that to the store itself.
	Expire(ctx context.Context, now time.Time) error
	// Ping says whether the store can be reached.
	Ping(ctx context.Context) error
	Close() error
}

// Bounds.
const (
	MaxEntity = 255 // bytes
	MaxValues = 64 << 10
	MaxRows   = 10_000 // that are written, or entities that are read, at once
)

// CheckRow says what keeps a row from being kept by any store.
func CheckRow(r *Row) error {
	switch {
	case r.Entity == "" || len(r.Entity) > MaxEntity:
		return wrong("entity has %d bytes, expected 1 to %d", len(r.Entity), MaxEntity)
	case r.EventTime.Year() < 1970 || r.EventTime.Year() > 9999:
		return wrong("event_time is %s, expected a time from 1970 on", r.EventTime.Format(time.RFC3339))
	case len(r.Values) > MaxValues:
		return wrong("values has %d bytes, at most %d are possible", len(r.Values), MaxValues)
	}
	return nil
}

func wrong(format string, args ...any) *fault.Error {
	return fault.New(fault.Unprocessable, format, args...).WithCode("feature_row_invalid")
}
