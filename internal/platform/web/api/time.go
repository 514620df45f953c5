package api

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sluice/internal/platform/fault"
)

// Time is a point in time as the API writes it: RFC 3339, in UTC, to the
// millisecond, such as 2006-01-02T15:04:05.000Z. It reads every RFC 3339 time.
type Time struct{ time.Time }

// layout keeps all digits, so that times sort as texts do.
const layout = "2006-01-02T15:04:05.000Z"

// MarshalText writes the time.
func (t Time) MarshalText() ([]byte, error) { return t.UTC().AppendFormat(nil, layout), nil }

// UnmarshalText reads a time.
func (t *Time) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fault.New(fault.Invalid, "%.60q is no time: expected RFC 3339, such as %s", text, layout)
	}
	t.Time = parsed.UTC().Truncate(time.Millisecond)
	return nil
}

// MarshalJSON writes the time in quotation marks.
func (t Time) MarshalJSON() ([]byte, error) { return t.UTC().AppendFormat(nil, `"`+layout+`"`), nil }

// UnmarshalJSON reads a time in quotation marks.
func (t *Time) UnmarshalJSON(text []byte) error {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return fault.New(fault.Invalid, "%.60q is no time: expected RFC 3339 in quotation marks", text)
	}
	return t.UnmarshalText(text[1 : len(text)-1])
}

// Schema describes the type to the OpenAPI document.
func (Time) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "string", Format: "date-time", Description: "RFC 3339, UTC, to the millisecond.", Examples: []any{layout}}
}
