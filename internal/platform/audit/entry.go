package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// Outcome is how a command ended.
type Outcome string

// The outcomes.
const (
	OK     Outcome = "ok"
	Denied Outcome = "denied" // not authenticated or not allowed
	Failed Outcome = "failed" // allowed, but came to nothing
)

// Entry is one leaf: that an actor did, or was denied, something. It never
// holds payloads, free text or names of people; its fields are identifiers of
// letters, digits and . _ : / -, which keeps mail addresses and sentences out.
type Entry struct {
	ID          string    // of the event, at most 64 bytes; the same id is logged once
	Time        time.Time // when it happened; kept in UTC, cut to milliseconds
	Tenant      string    // at most 64 bytes; empty where nobody was authenticated
	Actor       string    // pseudonymous id of the principal, at most 64 bytes
	Action      string    // name of the command, at most 64 bytes
	Kind        string    // of the resource, at most 64 bytes
	Resource    string    // its id, at most 128 bytes
	Outcome     Outcome
	Code        string // why it was denied or failed, at most 64 bytes
	Request     string // request id, at most 128 bytes
	Correlation string // correlation id, at most 128 bytes
	Change      string // Commit's digest of the payload, or empty
}

// Commit returns the commitment to a payload that Entry.Change holds: an
// HMAC-SHA256 of its parts, one behind the other. Keep one key per subject: once
// it is destroyed the commitment says nothing any more, not even to those who
// guess the payload.
func Commit(key []byte, payload ...[]byte) string {
	mac := hmac.New(sha256.New, key)
	for _, part := range payload {
		mac.Write(part)
	}
	var sum [sha256.Size]byte
	return changePrefix + hex.EncodeToString(mac.Sum(sum[:0]))
}

const changePrefix = "hmac-sha256:"

// layout is RFC 3339 with exactly three decimals and Z.
const layout = "2006-01-02T15:04:05.000Z"

// field is one string of the canonical encoding.
type field struct {
	name     string
	value    *string
	max      int
	required bool
}

// fields lists the entry's strings in the order of their encoding. The time
// goes before the tenant, and the outcome, a set of three, before the code.
func (e *Entry) fields(at *string) [12]field {
	return [12]field{
		{"id", &e.ID, 64, true},
		{"time", at, len(layout), true},
		{"tenant", &e.Tenant, 64, false},
		{"actor", &e.Actor, 64, false},
		{"action", &e.Action, 64, true},
		{"kind", &e.Kind, 64, false},
		{"resource", &e.Resource, 128, false},
		{"outcome", (*string)(&e.Outcome), 8, true},
		{"code", &e.Code, 64, false},
		{"request", &e.Request, 128, false},
		{"correlation", &e.Correlation, 128, false},
		{"change", &e.Change, len(changePrefix) + 2*sha256.Size, false},
	}
}

// Validate reports what keeps the entry out of the log, as fault.Invalid. Call
// it where the entry is made: behind the outbox it is too late.
func (e Entry) Validate() error {
	_, err := e.Encode()
	return err
}

func (e *Entry) validate(at string) error {
	if y := e.Time.UTC().Year(); y < 1 || y > 9999 {
		return invalid("time: year %d, expected 1 to 9999", y)
	}
	for _, f := range e.fields(&at) {
		switch v := *f.value; {
		case f.required && v == "":
			return invalid("%s is empty", f.name)
		case len(v) > f.max:
			return invalid("%s has %d bytes, more than %d", f.name, len(v), f.max)
		case !isIdentifier(v):
			return invalid("%s holds something else than letters, digits and . _ : / - (no free text in the log: give an identifier)", f.name)
		}
	}
	switch e.Outcome {
	case OK, Denied, Failed:
	default:
		return invalid("outcome is %q, expected ok, denied or failed", string(e.Outcome))
	}
	if e.Change != "" && !isChange(e.Change) {
		return invalid("change is not a digest as Commit makes it")
	}
	return nil
}

func isChange(s string) bool {
	digest, ok := strings.CutPrefix(s, changePrefix)
	return ok && len(digest) == 2*sha256.Size && strings.Trim(digest, "0123456789abcdef") == ""
}

// identifier marks the bytes that need no escape in JSON, URLs and paths.
var identifier = func() (set [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-") {
		set[c] = true
	}
	return set
}()

func isIdentifier(s string) bool {
	for i := range len(s) {
		if !identifier[s[i]] {
			return false
		}
	}
	return true
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "audit entry: %s", fmt.Sprintf(format, args...)).WithCode("invalid_audit_entry")
}
