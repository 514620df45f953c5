package tensorjson

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"sluice/internal/platform/fault"
)

// scanString checks the string whose opening quote is at src[i] and returns
// the index behind its closing one, and whether it is free of escapes.
func scanString(src []byte, i int) (end int, plain bool, err error) {
	start, ascii := i+1, byte(0)
	plain = true
	for i++; i < len(src); i++ {
		c := src[i]
		ascii |= c
		switch {
		case c == '"':
			if ascii >= utf8.RuneSelf && !utf8.Valid(src[start:i]) {
				return i, false, fault.New(fault.Invalid, "the string at byte %d is not valid UTF-8: send such data in the binary form", start-1)
			}
			return i + 1, plain, nil
		case c == '\\':
			n := escapeLen(src[i:])
			if n == 0 {
				return i, false, fault.New(fault.Invalid, `at byte %d: bad escape in a string: use \" \\ \/ \b \f \n \r \t or \u and four hex digits`, i)
			}
			plain = false
			i += n - 1
		case c < ' ':
			return i, false, fault.New(fault.Invalid, `at byte %d: control character %q in a string: write it as \u%04x`, i, c, c)
		}
	}
	return i, false, fault.New(fault.Invalid, "the string at byte %d has no closing quote", start-1)
}

// escapeLen returns the length of the escape that src starts with, 0 if bad.
func escapeLen(src []byte) int {
	if len(src) < 2 {
		return 0
	}
	switch src[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if hex4(src) >= 0 {
			return 6
		}
	}
	return 0
}

// hex4 returns the value of the \uXXXX escape that src starts with, and -1 if
// there is none.
func hex4(src []byte) rune {
	if len(src) < 6 || src[0] != '\\' || src[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range src[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}

// appendUnescaped appends the meaning of a checked string's inside. A lone
// half of a surrogate pair becomes U+FFFD, as in encoding/json.
func appendUnescaped(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		i += 2
		switch c = text[i-1]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(text[i-2:])
			i += 4
			if utf16.IsSurrogate(r) {
				if r = utf16.DecodeRune(r, hex4(text[i:])); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// AppendText appends the text as a JSON string. Bytes that are not UTF-8 are
// written as U+FFFD; check with utf8.Valid first where that matters.
func AppendText[B ~[]byte | ~string](dst []byte, text B) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		dst = append(dst, text[start:i]...)
		size := 1
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			var r rune
			r, size = utf8.DecodeRune([]byte(text[i:min(i+utf8.UTFMax, len(text))]))
			dst = utf8.AppendRune(dst, r)
		}
		i += size
		start = i
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}

// quote shortens a token for an error message.
func quote(token []byte) string {
	if len(token) > 40 {
		return strconv.Quote(string(token[:40]) + "…")
	}
	return string(token)
}
