package export

import (
	"context"
	"time"

	"sluice/internal/batch/table"
	"sluice/internal/platform/access"
)

// Dataset is something of a tenant's that can be exported.
type Dataset struct {
	Name  string // as clients say it
	About string // in a sentence: what a row is, and how consistent a scan
	// Permission is what it takes to see the rows, beside that to export.
	Permission access.Permission
	Schema     table.Schema
	// Time is the column that the range of an export selects by.
	Time string
	// Open begins to scan a tenant's rows.
	Open func(ctx context.Context, tenant string, s Slice) (Scan, error)
}

// Slice is which rows are wanted: those that were there at AsOf, with a time from
// From on and before To. Zero times are no bounds.
type Slice struct {
	From, To time.Time
	AsOf     time.Time
}

// Holds says whether a time is in the slice's range.
func (s Slice) Holds(at time.Time) bool {
	return (s.From.IsZero() || !at.Before(s.From)) && (s.To.IsZero() || at.Before(s.To))
}

// Scan goes through the rows of a slice.
type Scan interface {
	// Reader's Schema is the dataset's. After io.EOF, Read goes on with what has
	// come meanwhile. A Read that has only gone past records that are not of the
	// slice may return without rows.
	table.Reader
	// Seen is how many of the store's records Read has gone past, be they rows of
	// the slice or not.
	Seen() int64
	// Count is how many the store has now that Read would go past, from the first
	// on: all that are counted before Read came to an end were seen.
	Count(ctx context.Context) (int64, error)
}
