package aggregate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/google/uuid"

	"sluice/internal/platform/fault"
)

// MaxID is the most bytes of an id.
const MaxID = 255

// NewID returns an id of the form prefix_<32 hexadecimal digits>: ids of one
// prefix that are made of version 7 UUIDs sort by age.
func NewID[ID ~string](prefix string, id uuid.UUID) ID {
	return ID(prefix + "_" + hex.EncodeToString(id[:]))
}

// ParseID checks that text is an id with the prefix, as NewID makes them.
func ParseID[ID ~string](prefix, text string) (ID, error) {
	digits, ok := strings.CutPrefix(text, prefix+"_")
	if !ok || len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fault.New(fault.Invalid, "%q is not an id of the form %s_<32 hexadecimal digits>", fault.Clip(text, 64), prefix).WithCode("invalid_id")
	}
	return ID(text), nil
}

// Derive returns the n-th id of an operation: the operation's own for 0, and
// for others a version 7 UUID of the same time. An operation that is repeated,
// after a conflict or a crash, so makes the same ids again.
func Derive(operation uuid.UUID, n int) uuid.UUID {
	if n == 0 {
		return operation
	}
	seed := binary.BigEndian.AppendUint64(operation[:], uint64(n))
	sum := sha256.Sum256(seed)
	id := operation
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id
}
