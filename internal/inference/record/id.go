package record

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"

	"sluice/internal/platform/aggregate"
)

// ID is a prediction's id: a UUID, of version 7 where the prediction is not
// durable, so that it tells when the prediction was begun.
type ID [16]byte

// prefix is how ids are written.
const prefix = "pred"

// NewID returns an id for a prediction that is begun now (RFC 9562 §5.7). It does
// not allocate. Its random bits tell predictions apart; they keep nothing secret.
func NewID(now time.Time) (id ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16|7<<12|rand.Uint64()>>52)
	binary.BigEndian.PutUint64(id[8:], 1<<63|rand.Uint64()>>2)
	return id
}

// IsZero says whether it is no id.
func (id ID) IsZero() bool { return id == ID{} }

// Time returns when the prediction was begun, in UTC milliseconds, and whether the
// id tells.
func (id ID) Time() (time.Time, bool) {
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC(), true
}

// String is the id as clients know it.
func (id ID) String() string { return string(id.Append(nil)) }

// Append appends the id as clients know it.
func (id ID) Append(b []byte) []byte { return hex.AppendEncode(append(b, prefix+"_"...), id[:]) }

// ParseID reads an id as String writes it. What cannot be one is fault.Invalid.
func ParseID(text string) (id ID, err error) {
	checked, err := aggregate.ParseID[string](prefix, text)
	if err != nil {
		return id, err
	}
	_, err = hex.Decode(id[:], []byte(checked[len(prefix)+1:]))
	return id, err
}
