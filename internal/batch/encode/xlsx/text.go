package xlsx

import "unicode/utf8"

// plain marks the bytes that stand for themselves in a text.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = true
	}
	for _, c := range `&<>_` {
		t[c] = false
	}
	t['\t'], t['\n'] = true, true
	return t
}()

const hex = "0123456789ABCDEF"

// appendText appends a text as character data. A character that XML 1.0 cannot
// say, or that its readers change, is _xHHHH_ (ECMA-376 part 1, 22.9.2.19,
// ST_Xstring); a text that has such in it is escaped so that it stays one.
// Bytes that are not UTF-8 become U+FFFD.
func appendText(dst, text []byte) []byte {
	start := 0
	for i := 0; i < len(text); {
		if plain[text[i]] {
			i++
			continue
		}
		say, size := spelt(text[i:])
		if say != "" {
			dst = append(append(dst, text[start:i]...), say...)
			start = i + size
		}
		i += size
	}
	return append(dst, text[start:]...)
}

// spelt returns how the first character of a text is written, empty where it
// stands for itself, and its size.
func spelt(text []byte) (say string, size int) {
	switch b := text[0]; {
	case b == '&':
		return "&amp;", 1
	case b == '<':
		return "&lt;", 1
	case b == '>':
		return "&gt;", 1
	case b == '_':
		if escaped(text) {
			return "_x005F_", 1
		}
		return "", 1
	case b < ' ':
		return "_x00" + hex[b>>4:b>>4+1] + hex[b&15:b&15+1] + "_", 1
	}
	r, size := utf8.DecodeRune(text)
	switch {
	case r == utf8.RuneError && size == 1:
		return "\ufffd", 1
	case r == '\ufffe':
		return "_xFFFE_", size
	case r == '\uffff':
		return "_xFFFF_", size
	}
	return "", size
}

// escaped reports whether a text starts with what a reader takes for an
// escape: _xHHHH_.
func escaped(text []byte) bool {
	if len(text) < 7 || text[1] != 'x' || text[6] != '_' {
		return false
	}
	for _, c := range text[2:6] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
