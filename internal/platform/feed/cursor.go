package feed

import (
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// Cursor is a position behind an event. The zero value is none.
type Cursor struct {
	Epoch string // the stream's incarnation: 1 to 32 lower-case letters and digits
	Seq   uint64 // the event's sequence; 0 is before the first
}

// maxEpoch is the most bytes of an epoch.
const maxEpoch = 32

// String returns the cursor's text form, epoch-seq.
func (c Cursor) String() string { return string(c.append(nil)) }

func (c Cursor) append(b []byte) []byte {
	return strconv.AppendUint(append(append(b, c.Epoch...), '-'), c.Seq, 10)
}

// IsZero reports whether it is no cursor.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// ParseCursor reads the text form, and only that which String writes. Anything
// else is fault.Invalid with code "cursor_malformed".
func ParseCursor(text string) (Cursor, error) {
	epoch, digits, _ := strings.Cut(text, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	c := Cursor{Epoch: epoch, Seq: seq}
	if err != nil || !validEpoch(epoch) || c.String() != text {
		return Cursor{}, fault.New(fault.Invalid, "the cursor %q is malformed: send the id of an event as it was received, such as k3x9-42, or earliest for all that is kept", fault.Clip(text, 64)).
			WithCode("cursor_malformed")
	}
	return c, nil
}

func validEpoch(s string) bool {
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= maxEpoch
}

// EpochOf returns the epoch of a stream that was created at the time.
func EpochOf(created time.Time) string { return strconv.FormatUint(uint64(created.UnixMicro()), 36) }

// Start says where a consumer begins. The zero value is now: it gets what
// happens from then on.
type Start struct {
	After  Cursor // the last event seen
	Oldest bool   // all that is kept
	Event  string // behind the event with this id, if the source can find it
}

// ParseStart reads a cursor, the id of an event (evt_…), "earliest", or nothing,
// which is now.
func ParseStart(text string) (Start, error) {
	switch {
	case text == "":
		return Start{}, nil
	case text == "earliest":
		return Start{Oldest: true}, nil
	case strings.HasPrefix(text, "evt_") && len(text) <= maxName:
		return Start{Event: text}, nil
	}
	c, err := ParseCursor(text)
	return Start{After: c}, err
}
