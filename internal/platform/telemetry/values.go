package telemetry

import (
	"strings"

	"sluice/internal/platform/identity/secret"
)

// named returns the text up to the end of the name that a '=' or ':' follows.
func named(before string) string {
	end := len(before)
	for end > 0 && (before[end-1] == '"' || before[end-1] == '\'' || before[end-1] == '\\' || before[end-1] == ' ') {
		end--
	}
	return before[:end]
}

// hideValues hides what follows the name of a secret: in queries, connection
// strings, headers, JSON, YAML, and what fmt prints of structs and maps.
func hideValues(s string) string {
	var b strings.Builder
	done := 0
	for i := 0; i < len(s); i++ {
		if s[i] != '=' && s[i] != ':' {
			continue
		}
		from, to := value(s, i)
		if from >= to || s[from:to] == secret.Redacted {
			continue
		}
		b.WriteString(s[done:from])
		b.WriteString(secret.Redacted)
		done, i = to, to-1
	}
	if done == 0 {
		return s
	}
	return b.String() + s[done:]
}

// value returns where the secret behind the separator at i is, if there is one.
func value(s string, i int) (from, to int) {
	key := named(s[:i])
	name := toldBy(key)
	if name == "" {
		return 0, 0
	}
	from = i + 1
	if s[i] == ':' && strings.HasPrefix(s[from:], " ") && prose(key) {
		return 0, 0
	}
	for from < len(s) && (s[from] == ' ' || s[from] == '\t') {
		from++
	}
	hidden := strings.HasPrefix(s[from:], secret.Redacted)
	if !hidden && strings.HasPrefix(s[from:], "[") { // as fmt prints slices
		from++
	}
	if quote := opening(s[from:]); quote != "" {
		from += len(quote)
		return from, until(s, from, closing(s[from:], quote))
	}
	ends := " \t\r\n,;&\"'`)]}"
	if name == "authorization" || strings.HasPrefix(name, "cookie") {
		ends = "\r\n\"`]}" // these consist of several words
	}
	// What was hidden before has a bracket of its own.
	skip := 0
	if at := strings.Index(s[from:], secret.Redacted); at >= 0 && at < until(s[from:], 0, strings.IndexAny(s[from:], ends)) {
		skip = at + len(secret.Redacted)
	}
	return from, until(s, from+skip, strings.IndexAny(s[from+skip:], ends))
}

// until returns the index n after from, or the end of s where n is -1.
func until(s string, from, n int) int {
	if n < 0 {
		return len(s)
	}
	return from + n
}

// prose says whether the name stands in a sentence, as in "cannot read the
// token: it is empty", and not at the beginning of a line or an item.
func prose(key string) bool {
	word := strings.LastIndexFunc(key, func(r rune) bool {
		return !(r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z')
	})
	if word < 0 {
		return false
	}
	before := strings.TrimRight(key[:word+1], " \t")
	return before != "" && !strings.ContainsAny(before[len(before)-1:], "\n\r,;:{([?&\"'\\-")
}

// opening returns the quote that the text begins with, which a backslash may
// precede, or "".
func opening(s string) string {
	for _, q := range []string{`\"`, `"`, `'`, "`"} {
		if strings.HasPrefix(s, q) {
			return q
		}
	}
	return ""
}

// closing returns where the quote comes again, -1 for nowhere.
func closing(s, quote string) int {
	if quote != `"` {
		return strings.Index(s, quote)
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}
