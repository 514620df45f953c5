package model

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// quoted reads one string literal and undoes its escapes.
func (l *pbLexer) quoted() (string, error) {
	quote := l.src[l.at]
	l.at++
	var out strings.Builder
	for l.at < len(l.src) {
		c := l.src[l.at]
		l.at++
		switch c {
		case quote:
			return out.String(), nil
		case '\n':
			return "", fmt.Errorf("line %d: a string does not end on its line", l.line)
		case '\\':
			if err := l.escape(&out); err != nil {
				return "", err
			}
		default:
			out.WriteByte(c)
		}
	}
	return "", fmt.Errorf("line %d: a string does not end", l.line)
}

var pbEscapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v',
	'\\': '\\', '\'': '\'', '"': '"', '?': '?',
}

// escape reads what follows a backslash.
func (l *pbLexer) escape(out *strings.Builder) error {
	if l.at == len(l.src) {
		return fmt.Errorf("line %d: a string does not end", l.line)
	}
	c := l.src[l.at]
	if plain, ok := pbEscapes[c]; ok {
		l.at++
		out.WriteByte(plain)
		return nil
	}
	switch c {
	case '0', '1', '2', '3', '4', '5', '6', '7':
		return l.code(out, 8, 1, 3, "\\"+string(c))
	case 'x', 'X':
		l.at++
		return l.code(out, 16, 1, 2, "\\x")
	case 'u':
		l.at++
		return l.code(out, 16, 4, 4, "\\u")
	case 'U':
		l.at++
		return l.code(out, 16, 8, 8, "\\U")
	}
	return fmt.Errorf("line %d: unknown escape \\%c in a string", l.line, c)
}

// code reads between least and most digits: up to three make a byte, more make
// a character.
func (l *pbLexer) code(out *strings.Builder, base, least, most int, what string) error {
	start := l.at
	for l.at < len(l.src) && l.at-start < most {
		if _, err := strconv.ParseUint(string(l.src[l.at:l.at+1]), base, 8); err != nil {
			break
		}
		l.at++
	}
	v, err := strconv.ParseUint(string(l.src[start:l.at]), base, 32)
	switch {
	case err != nil || l.at-start < least:
		return fmt.Errorf("line %d: escape %s needs %d digits", l.line, what, least)
	case most > 3 && !utf8.ValidRune(rune(v)), most <= 3 && v > 255:
		return fmt.Errorf("line %d: escape %s is out of range", l.line, what)
	case most > 3:
		out.WriteRune(rune(v))
	default:
		out.WriteByte(byte(v))
	}
	return nil
}
