package password

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"sluice/internal/platform/fault"
)

// Params are the costs of argon2id (RFC 9106 section 3.1).
type Params struct {
	Time      uint32 // passes over the memory
	MemoryKiB uint32
	Threads   uint8
}

// The bounds of what a stored text may ask for. It comes from our own store, but
// whoever can write there must not thereby take the memory of every node.
const (
	maxTime      = 16
	maxMemoryKiB = 256 << 10
	maxThreads   = 16
	maxText      = 256

	saltLen          = 16
	sumLen           = 32
	minSalt, maxSalt = 8, 64
	minSum, maxSum   = 16, 64
)

func (p Params) valid() bool {
	return p.Time >= 1 && p.Time <= maxTime && p.Threads >= 1 && p.Threads <= maxThreads &&
		p.MemoryKiB >= 8*uint32(p.Threads) && p.MemoryKiB <= maxMemoryKiB
}

// weakerThan reports whether p costs less than q in any way, so that a hash
// made with p should be made again.
func (p Params) weakerThan(q Params) bool {
	return p.Time < q.Time || p.MemoryKiB < q.MemoryKiB
}

// hash is a stored password, decoded.
type hash struct {
	Params
	salt, sum []byte
}

var base64NoPad = base64.RawStdEncoding.Strict()

// String encodes h as a PHC string:
// $argon2id$v=19$m=19456,t=2,p=1$<salt>$<sum>, base64 without padding.
func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.MemoryKiB, h.Time, h.Threads,
		base64NoPad.EncodeToString(h.salt), base64NoPad.EncodeToString(h.sum))
}

// decode reads what String wrote, and nothing else: one spelling per hash. It
// allocates no more than the text is long, whatever the text says.
func decode(text string) (hash, error) {
	parts := strings.Split(text[:min(len(text), maxText+1)], "$")
	if len(text) > maxText || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return hash{}, errStored()
	}
	p, ok := decodeParams(parts[3])
	if !ok || !p.valid() {
		return hash{}, errStored()
	}
	salt, err := base64NoPad.DecodeString(parts[4])
	if err != nil || len(salt) < minSalt || len(salt) > maxSalt {
		return hash{}, errStored()
	}
	sum, err := base64NoPad.DecodeString(parts[5])
	if err != nil || len(sum) < minSum || len(sum) > maxSum {
		return hash{}, errStored()
	}
	h := hash{Params: p, salt: salt, sum: sum}
	if h.String() != text {
		return hash{}, errStored()
	}
	return h, nil
}

func decodeParams(text string) (p Params, ok bool) {
	fields := strings.Split(text, ",")
	if len(fields) != 3 {
		return p, false
	}
	memory, okM := decodeParam(fields[0], "m=", 32)
	passes, okT := decodeParam(fields[1], "t=", 32)
	threads, okP := decodeParam(fields[2], "p=", 8)
	return Params{Time: uint32(passes), MemoryKiB: uint32(memory), Threads: uint8(threads)}, okM && okT && okP
}

func decodeParam(field, name string, bits int) (uint64, bool) {
	digits, ok := strings.CutPrefix(field, name)
	n, err := strconv.ParseUint(digits, 10, bits)
	return n, ok && err == nil
}

// errStored does not repeat the text: it is half of a credential.
func errStored() error {
	return fault.New(fault.Internal, "a stored password hash is malformed: expected $argon2id$v=19$m=…,t=…,p=…$salt$sum within the supported costs").
		WithCode("password_hash_malformed")
}
