package model

import (
	"fmt"
	"strings"
)

// parsePBText returns the tree of a message in protobuf's text format:
// fields with or without a colon before a message in {} or <>, lists in [],
// adjacent strings that join, separators "," and ";", and # comments.
func parsePBText(data []byte) (*node, error) {
	p := &pbParser{lex: pbLexer{src: data, line: 1}, left: maxDocNodes}
	if err := p.next(); err != nil {
		return nil, err
	}
	root := &node{kind: object, line: 1}
	if err := p.fields(root, "", 0); err != nil {
		return nil, err
	}
	return root, nil
}

type pbParser struct {
	lex  pbLexer
	tok  pbToken // the token ahead
	left int
}

func (p *pbParser) next() (err error) {
	p.tok, err = p.lex.token()
	return err
}

func (p *pbParser) is(symbol string) bool { return p.tok.kind == pbSymbol && p.tok.text == symbol }

// skip steps over the symbol where it stands next.
func (p *pbParser) skip(symbol string) (bool, error) {
	if !p.is(symbol) {
		return false, nil
	}
	return true, p.next()
}

func (p *pbParser) unexpected(wanted string) error {
	return fmt.Errorf("line %d: expected %s, got %s", p.tok.line, wanted, p.tok)
}

// fields reads fields up to the closing symbol, or the end of the file for "".
func (p *pbParser) fields(into *node, closing string, depth int) error {
	if depth > maxDocDepth {
		return fmt.Errorf("line %d: is nested more than %d deep", into.line, maxDocDepth)
	}
	for {
		switch {
		case closing != "" && p.is(closing):
			return p.next()
		case p.tok.kind == pbEnd && closing == "":
			return nil
		case p.tok.kind == pbEnd:
			return fmt.Errorf("line %d: the message that starts here is not closed with %q", into.line, closing)
		}
		if err := p.field(into, depth); err != nil {
			return err
		}
		if found, err := p.skip(","); found || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := p.skip(";"); err != nil {
			return err
		}
	}
}

func (p *pbParser) field(into *node, depth int) error {
	if p.is("[") {
		return fmt.Errorf("line %d: extension fields are not supported", p.tok.line)
	}
	if p.tok.kind != pbWord {
		return p.unexpected("a field name")
	}
	m := member{name: p.tok.text, line: p.tok.line}
	if err := p.next(); err != nil {
		return err
	}
	colon, err := p.skip(":")
	if err != nil {
		return err
	}
	if !colon && !p.is("{") && !p.is("<") && !p.is("[") {
		return p.unexpected("\":\" or a message after " + m.name)
	}
	if m.value, err = p.value(depth, true); err != nil {
		return err
	}
	if !colon && m.value.kind == list {
		for _, item := range m.value.items {
			if item.kind != object {
				return fmt.Errorf("line %d: expected %q before the values of %s", m.line, ":", m.name)
			}
		}
	}
	into.members = append(into.members, m)
	return nil
}

// value reads one value; lists says whether it may be a list.
func (p *pbParser) value(depth int, lists bool) (*node, error) {
	if p.left--; p.left < 0 {
		return nil, fmt.Errorf("has more than %d values", maxDocNodes)
	}
	n := &node{line: p.tok.line, text: p.tok.text}
	switch p.tok.kind {
	case pbWord:
		n.kind = word
		return n, p.next()
	case pbNumber:
		n.kind = number
		return n, p.next()
	case pbString:
		n.kind = text
		return n, p.strings(n)
	default:
		return p.compound(n, depth, lists)
	}
}

// compound reads a message or a list.
func (p *pbParser) compound(n *node, depth int, lists bool) (*node, error) {
	for _, pair := range [...]string{"{}", "<>"} {
		if p.is(pair[:1]) {
			n.kind, n.text = object, ""
			if err := p.next(); err != nil {
				return nil, err
			}
			return n, p.fields(n, pair[1:], depth+1)
		}
	}
	if lists && p.is("[") {
		n.kind, n.text = list, ""
		return n, p.list(n, depth)
	}
	return nil, p.unexpected("a value")
}

// strings joins adjacent strings.
func (p *pbParser) strings(n *node) error {
	var joined strings.Builder
	for p.tok.kind == pbString {
		joined.WriteString(p.tok.text)
		if err := p.next(); err != nil {
			return err
		}
	}
	n.text = joined.String()
	return nil
}

func (p *pbParser) list(n *node, depth int) error {
	if err := p.next(); err != nil {
		return err
	}
	if empty, err := p.skip("]"); empty || err != nil {
		return err
	}
	for {
		item, err := p.value(depth+1, false)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
		if done, err := p.skip("]"); done || err != nil {
			return err
		}
		if comma, err := p.skip(","); err != nil {
			return err
		} else if !comma {
			return p.unexpected("\",\" or \"]\"")
		}
	}
}

// pbLexer splits text-format protobuf into tokens.
type pbLexer struct {
	src  []byte
	at   int
	line int
}

type pbKind uint8

const (
	pbEnd pbKind = iota
	pbWord
	pbNumber
	pbString
	pbSymbol
)

type pbToken struct {
	kind pbKind
	text string // of a string: unescaped
	line int
}

func (t pbToken) String() string {
	if t.kind == pbEnd {
		return "the end of the file"
	}
	return fmt.Sprintf("%.80q", t.text)
}

// blank steps over white space and comments.
func (l *pbLexer) blank() {
	for ; l.at < len(l.src); l.at++ {
		switch l.src[l.at] {
		case '\n':
			l.line++
		case ' ', '\t', '\r', '\v', '\f':
		case '#':
			for l.at+1 < len(l.src) && l.src[l.at+1] != '\n' {
				l.at++
			}
		default:
			return
		}
	}
}

func (l *pbLexer) token() (pbToken, error) {
	l.blank()
	t := pbToken{line: l.line}
	if l.at == len(l.src) {
		return t, nil
	}
	start := l.at
	switch c := l.src[l.at]; {
	case c == '"' || c == '\'':
		s, err := l.quoted()
		t.kind, t.text = pbString, s
		return t, err
	case isLetter(c):
		t.kind = pbWord
		l.run(func(c byte) bool { return isLetter(c) || isDigit(c) })
	case isDigit(c) || c == '-' || c == '.':
		t.kind = pbNumber
		return t, l.number(&t)
	case strings.IndexByte("{}<>[]:,;", c) >= 0:
		t.kind = pbSymbol
		l.at++
	default:
		return t, fmt.Errorf("line %d: unexpected character %q", l.line, c)
	}
	t.text = string(l.src[start:l.at])
	return t, nil
}

func (l *pbLexer) run(accept func(byte) bool) {
	for l.at < len(l.src) && accept(l.src[l.at]) {
		l.at++
	}
}

// number reads an integer, a float, or a signed word such as -inf. What the
// digits mean is decided where the number is used.
func (l *pbLexer) number(t *pbToken) error {
	sign := ""
	if l.src[l.at] == '-' {
		sign = "-"
		l.at++
		l.blank()
	}
	start := l.at
	exponent := false // a sign may follow e, but not in a hexadecimal number
	l.run(func(c byte) bool {
		signed := exponent && (c == '+' || c == '-')
		hex := l.at-start >= 1 && l.src[start] == '0' && (l.src[start+min(1, l.at-start)]|0x20) == 'x'
		exponent = (c|0x20) == 'e' && !hex
		return isLetter(c) || isDigit(c) || c == '.' || signed
	})
	if l.at == start {
		return fmt.Errorf("line %d: expected a number after %q", l.line, "-")
	}
	t.text = sign + string(l.src[start:l.at])
	return nil
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
