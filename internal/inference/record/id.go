package record

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/fault"
)

// ID is a prediction's id: a UUID, of version 7 where the prediction is not
// durable, so that it tells when the prediction was begun.
type ID [16]byte

// prefix is how ids are written.
const prefix = "pred_"

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
func (id ID) String() string { return prefix + uuid.UUID(id).String() }

// ParseID reads an id as String writes it. What cannot be one is fault.Invalid.
func ParseID(text string) (ID, error) {
	if rest, ok := strings.CutPrefix(text, prefix); ok && len(rest) == 36 {
		if id, err := uuid.Parse(rest); err == nil {
			return ID(id), nil
		}
	}
	return ID{}, fault.New(fault.Invalid, "%q is no prediction's id: they are %s and a UUID", fault.Clip(text, 60), prefix).WithCode("prediction_id_invalid")
}
