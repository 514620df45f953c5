package queue

import (
	"strings"

	"sluice/internal/platform/fault"
)

// The limits of a message, which leave room for what a dead letter adds.
const (
	MaxID      = 128      // bytes of an ID
	MaxSubject = 200      // bytes of a subject
	MaxHeaders = 32       // entries of a header
	MaxHeader  = 4 << 10  // bytes of all keys and values of a header
	Overhead   = 16 << 10 // bytes that an adapter keeps free beside the data
)

// Validate returns fault.Invalid, with what to change, for a message that no
// queue would take.
func (m Message) Validate() error {
	if !token(m.ID) || len(m.ID) > MaxID {
		return invalid("the message's ID %q must have 1 to %d letters, digits and any of -_:=+/~@", fault.Clip(m.ID, MaxID), MaxID)
	}
	if !Subject(m.Subject) {
		return invalid("the subject %q must be tokens of letters, digits, '-' and '_' separated by dots, at most %d bytes", fault.Clip(m.Subject, MaxSubject), MaxSubject)
	}
	size := 0
	for k, v := range m.Header {
		size += len(k) + len(v)
		if !token(k) || reserved(k) || strings.ContainsAny(k, ":=/") || !printable(v) {
			return invalid("the header %q must have a key of letters, digits, '-' and '_' that does not start with \"nats-\" or \"sluice-\", and a printable value", fault.Clip(k, 64))
		}
	}
	if len(m.Header) > MaxHeaders || size > MaxHeader {
		return fault.New(fault.TooLarge, "the message's header has %d entries of %d bytes together; at most %d of %d are allowed", len(m.Header), size, MaxHeaders, MaxHeader).WithCode("message_too_large")
	}
	return nil
}

// Subject reports whether s is a subject to publish on.
func Subject(s string) bool { return subject(s, false) }

// Pattern reports whether s is a subject to filter by: besides plain tokens it
// may have "*" for any one token, and end in ">" for one or more.
func Pattern(s string) bool { return subject(s, true) }

func subject(s string, wild bool) bool {
	if len(s) > MaxSubject {
		return false
	}
	for rest, more := s, true; more; {
		var t string
		t, rest, more = strings.Cut(rest, ".")
		switch {
		case wild && t == "*", wild && t == ">" && !more:
		case !Name(t):
			return false
		}
	}
	return true
}

// Matches reports whether the subject matches the pattern.
func Matches(pattern, subject string) bool {
	for {
		p, restP, moreP := strings.Cut(pattern, ".")
		s, restS, moreS := strings.Cut(subject, ".")
		switch {
		case p == ">":
			return true
		case p != "*" && p != s, moreP != moreS:
			return false
		case !moreP:
			return true
		}
		pattern, subject = restP, restS
	}
}

// MatchesAny reports whether the subject matches one of the patterns, or there
// are none.
func MatchesAny(patterns []string, subject string) bool {
	for _, p := range patterns {
		if Matches(p, subject) {
			return true
		}
	}
	return len(patterns) == 0
}

// Name reports whether s can name a stream or a consumer, and be a token of a
// subject.
func Name(s string) bool {
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != "" && len(s) <= MaxID
}

// token reports whether s can be one token of a server's subject and a header.
func token(s string) bool {
	for i := range len(s) {
		if !alnum(s[i]) && !strings.ContainsRune("-_:=+/~@", rune(s[i])) {
			return false
		}
	}
	return s != ""
}

// printable keeps line ends out of headers. Blanks at the ends would be lost.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode("message_invalid")
}

// reserved reports whether a header's key is an adapter's own.
func reserved(key string) bool {
	key = strings.ToLower(key)
	return strings.HasPrefix(key, "nats-") || strings.HasPrefix(key, "sluice-")
}
