package idempotency

import (
	"strings"

	"sluice/internal/platform/fault"
)

// MaxKey is the most characters of a key.
const MaxKey = 255

// ParseKey reads the lines of an Idempotency-Key header: a string of a
// structured field (RFC 9651, 3.3.3), or the characters alone, as most clients
// send it. It returns "" where there is none, and fault.Invalid where it cannot
// be read.
func ParseKey(lines []string) (string, error) {
	if len(lines) == 0 {
		return "", nil
	}
	if len(lines) > 1 {
		return "", malformed("it is sent %d times", len(lines))
	}
	text := strings.Trim(lines[0], " \t")
	key, quoted := text, strings.HasPrefix(text, `"`)
	if quoted {
		var ok bool
		if key, ok = unquote(text); !ok {
			return "", malformed("its quotation marks or escapes are wrong")
		}
	}
	if key == "" || len(key) > MaxKey {
		return "", malformed("it has %d characters", len(key))
	}
	for i := range len(key) {
		switch c := key[i]; {
		case c < ' ' || c > '~':
			return "", malformed("character %d is not printable ASCII", i+1)
		case !quoted && (c == ' ' || c == ',' || c == ';' || c == '"'):
			return "", malformed("character %d needs the key to be in quotation marks", i+1)
		}
	}
	return key, nil
}

// unquote reads a string with its quotation marks, in which \ escapes " and \.
func unquote(text string) (string, bool) {
	var key strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return key.String(), i == len(text)-1
		case '\\':
			i++
			if i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", false
			}
			key.WriteByte(text[i])
		default:
			key.WriteByte(c)
		}
	}
	return "", false
}

func malformed(format string, args ...any) error {
	e := fault.New(fault.Invalid, format, args...)
	return fault.New(fault.Invalid, "the Idempotency-Key is malformed: %s; expected 1 to %d visible ASCII characters, in quotation marks or not", e.Message, MaxKey).
		WithCode("idempotency_key_invalid")
}
