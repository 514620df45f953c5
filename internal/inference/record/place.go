package record

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"sluice/internal/platform/fault"
)

// Place is where an entry stands in the log of its tenant: by time, then by id and
// attempt. The zero value is before all.
type Place struct {
	At      time.Time
	ID      ID
	Attempt int
}

// Place returns where the entry stands.
func (e *Entry) Place() Place { return Place{e.At, e.ID, e.Attempt} }

// IsZero says whether it is no entry's place.
func (p Place) IsZero() bool { return p.ID.IsZero() }

// String is the place as a cursor.
func (p Place) String() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.At.UnixMilli()))
	b = append(b, p.ID[:]...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, uint32(p.Attempt)))
}

// ParsePlace reads a cursor as String writes it. What is none is fault.Invalid.
func ParsePlace(cursor string) (Place, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) != 28 {
		return Place{}, fault.New(fault.Invalid, "the cursor %q is none: send next_cursor as the page before has it", fault.Clip(cursor, 60)).WithCode("cursor_invalid")
	}
	p := Place{At: time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC(), Attempt: int(binary.BigEndian.Uint32(b[24:]))}
	copy(p.ID[:], b[8:])
	return p, nil
}
