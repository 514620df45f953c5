package encode

import (
	"strconv"
	"strings"
)

// The codings of answers (RFC 9110, 8.4.1; RFC 7932; RFC 9659), in the order of
// the server's preference.
const (
	Zstd   = "zstd"
	Brotli = "br"
	Gzip   = "gzip"
)

var preference = [...]string{Zstd, Brotli, Gzip}

// Choose returns the coding that the lines of an Accept-Encoding header like
// best (RFC 9110, 12.5.3), and "" for none: also where the header cannot be
// read, for no coding is always understood.
func Choose(accept []string) string {
	const unnamed = -1.0
	quality := [len(preference)]float64{unnamed, unnamed, unnamed}
	identity, rest := unnamed, unnamed
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			name, q := Weight(item)
			switch {
			case strings.EqualFold(name, Gzip), strings.EqualFold(name, "x-gzip"):
				quality[2] = q
			case strings.EqualFold(name, Brotli):
				quality[1] = q
			case strings.EqualFold(name, Zstd):
				quality[0] = q
			case strings.EqualFold(name, "identity"):
				identity = q
			case name == "*":
				rest = q
			}
		}
	}
	best, chosen := max(identity, 0), ""
	for i, q := range quality {
		if q == unnamed {
			q = rest
		}
		if q > best || q == best && q > 0 && chosen == "" {
			best, chosen = q, preference[i]
		}
	}
	return chosen
}

// Weight splits an item of a header such as Accept: its value, and the weight
// after q= (RFC 9110, 12.4.2), which is 1 if there is none and 0 if it cannot be
// read. Other parameters are left out.
func Weight(item string) (value string, q float64) {
	value, parameters, _ := strings.Cut(item, ";")
	q = 1
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, text, ok := strings.Cut(strings.TrimSpace(parameter), "=")
		if !ok || !strings.EqualFold(name, "q") {
			continue
		}
		w, err := strconv.ParseFloat(text, 64)
		if err != nil || !(w >= 0 && w <= 1) || len(text) > 5 {
			w = 0
		}
		q = w
	}
	return strings.TrimSpace(value), q
}
