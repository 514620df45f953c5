package audit

import (
	"bytes"
	"time"
)

// Encode returns the entry's leaf: a JSON object with all fields in one order,
// no white space and no escapes. An entry has exactly one encoding, so that its
// hash can be computed again from what the leaf says.
func (e Entry) Encode() ([]byte, error) {
	return e.append(make([]byte, 0, 512))
}

// version begins every leaf. A reader of another version stops here.
const version = `{"v":1`

func (e Entry) append(b []byte) ([]byte, error) {
	at := e.Time.UTC().Format(layout)
	if err := e.validate(at); err != nil {
		return b, err
	}
	b = append(b, version...)
	for _, f := range e.fields(&at) {
		b = append(b, `,"`...)
		b = append(b, f.name...)
		b = append(b, `":"`...)
		b = append(b, *f.value...)
		b = append(b, '"')
	}
	return append(b, '}'), nil
}

// Decode reads a leaf. It accepts exactly what Encode makes; everything else
// is fault.Invalid.
func Decode(leaf []byte) (Entry, error) {
	var e Entry
	var at string
	rest, ok := bytes.CutPrefix(leaf, []byte(version))
	if !ok {
		return Entry{}, invalid("does not begin with %s: another version, or no entry", version)
	}
	text := string(rest) // one copy, which the fields share
	for _, f := range e.fields(&at) {
		lead := len(`,"":"`) + len(f.name)
		if len(text) < lead || text[:2] != `,"` || text[2:2+len(f.name)] != f.name || text[lead-3:lead] != `":"` {
			return Entry{}, invalid("expected the field %s after %d bytes", f.name, len(leaf)-len(text))
		}
		text = text[lead:]
		n := 0
		for n < len(text) && identifier[text[n]] {
			n++
		}
		if n == len(text) || text[n] != '"' {
			return Entry{}, invalid("%s does not end after %d bytes", f.name, n)
		}
		*f.value, text = text[:n], text[n+1:]
	}
	if text != "}" {
		return Entry{}, invalid("expected } after the last field")
	}
	t, err := time.Parse(layout, at)
	if err != nil || t.Format(layout) != at {
		return Entry{}, invalid("time is not in the form %s", layout)
	}
	e.Time = t
	if err := e.validate(at); err != nil {
		return Entry{}, err
	}
	return e, nil
}
