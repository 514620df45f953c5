package encode

import "strings"

// suffixed returns the entity tag of an answer in a coding: "7" becomes "7-gzip".
// A strong tag names one sequence of bytes, so that each coding needs its own;
// making it weak instead would take If-Match from every client that accepts
// compression, for that never matches weak tags.
func suffixed(tag, coding string) string {
	if inner, ok := strings.CutSuffix(tag, `"`); ok && inner != "" {
		return inner + "-" + coding + `"`
	}
	return tag
}

// Plain returns the entity tag of the answer without its coding: what suffixed
// made of it, back again.
func Plain(tag string) string {
	inner, ok := strings.CutSuffix(tag, `"`)
	if !ok {
		return tag
	}
	for _, coding := range preference {
		if base, ok := strings.CutSuffix(inner, "-"+coding); ok {
			return base + `"`
		}
	}
	return tag
}
