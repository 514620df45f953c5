package telemetry

import (
	"regexp"
	"strings"

	"sluice/internal/platform/identity/secret"
)

// names of things that are secret. A name tells if it ends in one of them,
// whatever its case, and '-', '_' and '.' aside: "X-Api-Key", "dbPassword".
var names = []string{
	"authorization", "cookie", "cookies", "password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "token",
	"apikey", "apikeys", "accesskey", "secretkey", "privatekey", "signingkey", "credential", "credentials", "sessionid", "jwt", "bearer",
	"email", "emailaddress",
}

// endings holds the names by their last two letters, of which the lower five bits
// count, so that most names that tell nothing cost one look.
var endings = func() (e [1 << 10][]string) {
	for _, n := range names {
		e[ending(n)] = append(e[ending(n)], n)
	}
	return e
}()

func ending(name string) int {
	n := len(name)
	return int(name[n-1]&31)<<5 | int(name[n-2]&31)
}

// telling says whether a name tells that what it names is secret.
func telling(name string) bool { return toldBy(name) != "" }

func toldBy(name string) string {
	if len(name) < 2 {
		return ""
	}
	for _, n := range endings[ending(name)] {
		if endsIn(name, n) {
			return n
		}
	}
	return ""
}

// endsIn compares from the end; word is in lower case.
func endsIn(name, word string) bool {
	i := len(name) - 1
	for j := len(word) - 1; j >= 0; i-- {
		switch {
		case i < 0:
			return false
		case name[i]|0x20 == word[j]:
			j--
		case name[i] != '-' && name[i] != '_' && name[i] != '.':
			return false
		}
	}
	return true
}

// hint marks the bytes at which suspicious takes a closer look.
var hint = [256]bool{'@': true, '_': true, 'J': true, '-': true, ' ': true, '\t': true, '\n': true, '\r': true, '=': true, ':': true}

// suspicious says whether Redact might change the text. It is what ordinary lines
// cost, so it takes one look at each byte.
func suspicious(s string) bool {
	for i := 0; i < len(s); i++ {
		if !hint[s[i]] {
			continue
		}
		switch s[i] {
		case '@':
			return true
		case '_':
			if endsIn(s[:i], "slc") || endsIn(s[:i], "whsec") {
				return true
			}
		case 'J':
			if strings.HasSuffix(s[:i], "ey") {
				return true
			}
		case '-':
			if strings.HasPrefix(s[i:], "-----BEGIN ") {
				return true
			}
		case '=', ':':
			if telling(named(s[:i])) {
				return true
			}
		default:
			if endsIn(s[:i], "bearer") || endsIn(s[:i], "basic") {
				return true
			}
		}
	}
	return false
}

// patterns are what looks like a secret anywhere, and what replaces it.
var patterns = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`), secret.Redacted},
	{regexp.MustCompile(`(://)[^\s/?#"'<>]*@`), "${1}" + secret.Redacted + "@"},
	{regexp.MustCompile(`([sS][lL][cC]_[a-zA-Z]+_)[0-9A-Za-z_]+`), "${1}" + secret.Redacted},
	{regexp.MustCompile(`([wW][hH][sS][eE][cC]_)[0-9A-Za-z+/=_-]+`), "${1}" + secret.Redacted},
	{regexp.MustCompile(`eyJ[0-9A-Za-z_-]{4,}(?:\.[0-9A-Za-z_-]*){0,4}`), secret.Redacted},
	// A bearer's name in prose is followed by a short word of letters.
	{regexp.MustCompile(`([bB][eE][aA][rR][eE][rR]\s+)(?:[0-9A-Za-z._~+/=-]{16,}|[A-Za-z._~+/=-]*[0-9][0-9A-Za-z._~+/=-]*)`), "${1}" + secret.Redacted},
	{regexp.MustCompile(`([bB][aA][sS][iI][cC]\s+)(?:[0-9A-Za-z+/=_-]{16,}|[A-Za-z+/=_-]*[0-9=][0-9A-Za-z+/=_-]*)`), "${1}" + secret.Redacted},
	{regexp.MustCompile(`[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+`), secret.Redacted},
}

// Redact returns the text without what looks like a secret or personal: API keys,
// bearer tokens, JWTs, webhook secrets, private keys, credentials in URLs, e-mail
// addresses, and the values of what is named as secret ("password=…").
func Redact(s string) string {
	if !suspicious(s) {
		return s
	}
	for _, p := range patterns {
		s = p.find.ReplaceAllString(s, p.replace)
	}
	return hideValues(s)
}
