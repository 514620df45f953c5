// Package secret keeps texts that must not be shown, such as keys and
// passwords, out of logs, errors and answers: whatever prints one prints
// "[redacted]", and only Reveal shows it.
//
// Known limits: the text lies in ordinary memory, so a dump of the process holds
// it, and what Reveal returned is no longer guarded.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a secret is shown as.
const Redacted = "[redacted]"

// Text is a secret text. The zero value is empty. It decodes from JSON and other
// texts as it is, and encodes as Redacted.
type Text struct{ text string }

// Of returns the text as a secret.
func Of(text string) Text { return Text{text} }

// Reveal returns the text itself. Search for its callers to see where secrets go.
func (t Text) Reveal() string { return t.text }

// IsZero reports whether there is no secret.
func (t Text) IsZero() bool { return t.text == "" }

// Len returns the length in bytes.
func (t Text) Len() int { return len(t.text) }

// Equal compares in a time that depends on the lengths only.
func (t Text) Equal(o Text) bool {
	a, b := sha256.Sum256([]byte(t.text)), sha256.Sum256([]byte(o.text))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// String returns Redacted.
func (Text) String() string { return Redacted }

// Format writes Redacted for every verb and flag: %x and %#v would else reach
// into the struct.
func (Text) Format(s fmt.State, _ rune) { io.WriteString(s, Redacted) }

// LogValue returns Redacted.
func (Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns Redacted; JSON and YAML encoders use it.
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText takes the text over.
func (t *Text) UnmarshalText(b []byte) error {
	t.text = string(b)
	return nil
}
