package model

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/internal/platform/typo"
)

// section reads one group of settings. Every key that is asked for becomes a
// known key; end refuses the others.
type section struct {
	*document
	path  string // "dynamic_batching.default_queue_policy"; empty for the whole file
	node  *node
	known []string
}

func (d *document) section(path string, n *node) *section {
	if n.kind != object && n.kind != null {
		d.fail(n.line, path, "must be a group of settings, got %s", n.kind)
		n = &node{line: n.line}
	}
	return &section{document: d, path: path, node: n}
}

func (s *section) at(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

func (s *section) named(m member, key string) bool {
	return m.name == key || s.syntax == jsonSyntax && m.name == camel(key)
}

func camel(key string) string {
	var b strings.Builder
	upper := false
	for _, r := range key {
		switch {
		case r == '_':
			upper = true
		case upper:
			b.WriteString(strings.ToUpper(string(r)))
			upper = false
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// find returns the single value of key, or nil where it is not set.
func (s *section) find(key string) *node {
	s.known = append(s.known, key)
	var found *node
	for _, m := range s.node.members {
		if !s.named(m, key) {
			continue
		}
		if found != nil {
			s.fail(m.line, s.at(key), "is given twice")
			return nil
		}
		found = m.value
	}
	if found == nil || found.kind == null {
		return nil
	}
	return found
}

// all returns the values of a repeated key.
func (s *section) all(key string) []*node {
	if s.syntax != textSyntax {
		n := s.find(key)
		switch {
		case n == nil:
			return nil
		case n.kind != list:
			s.fail(n.line, s.at(key), "must be a list, got %s", n.kind)
			return nil
		}
		return n.items
	}
	s.known = append(s.known, key)
	var values []*node
	for _, m := range s.node.members {
		switch {
		case m.name != key:
		case m.value.kind == list:
			values = append(values, m.value.items...)
		default:
			values = append(values, m.value)
		}
	}
	return values
}

// end refuses keys that nobody asked for, naming the nearest that is known.
func (s *section) end() {
	for _, m := range s.node.members {
		if slices.ContainsFunc(s.known, func(k string) bool { return s.named(m, k) }) {
			continue
		}
		if near := typo.Nearest(m.name, s.known); near != "" {
			s.fail(m.line, s.path, "unknown key %.80q: did you mean %q?", m.name, near)
		} else {
			s.fail(m.line, s.path, "unknown key %.80q: use one of %s", m.name, strings.Join(slices.Compact(slices.Sorted(slices.Values(s.known))), ", "))
		}
	}
}

// group reads a nested group of settings and reports whether it was there.
func (s *section) group(key string, read func(*section)) bool {
	n := s.find(key)
	if n == nil {
		return false
	}
	sub := s.section(s.at(key), n)
	read(sub)
	sub.end()
	return true
}

// groups reads a list of groups of settings.
func (s *section) groups(key string, read func(*section)) {
	for i, n := range s.all(key) {
		sub := s.section(s.at(key)+"["+strconv.Itoa(i)+"]", n)
		read(sub)
		sub.end()
	}
}

// entries reads a map in the order of the file.
func (s *section) entries(key string, read func(name string, path string, value *node)) {
	seen := map[string]bool{}
	visit := func(name string, line int, value *node) {
		if seen[name] {
			s.fail(line, s.at(key), "key %.80q is given twice", name)
		}
		seen[name] = true
		read(name, s.at(key)+"["+strconv.Quote(name)+"]", value)
	}
	if s.syntax == textSyntax {
		s.groups(key, func(e *section) {
			value := e.find("value")
			if value == nil {
				value = &node{line: e.node.line}
			}
			visit(e.str("key"), e.node.line, value)
		})
		return
	}
	n := s.find(key)
	if n == nil {
		return
	}
	if n.kind != object {
		s.fail(n.line, s.at(key), "must be a group of settings, got %s", n.kind)
		return
	}
	for _, m := range n.members {
		visit(m.name, m.line, m.value)
	}
}

const maxString = 4096

// str returns a string, empty where it is not set.
func (s *section) str(key string) string { return s.strNode(s.at(key), s.find(key)) }

func (s *section) strNode(path string, n *node) string {
	switch {
	case n == nil:
		return ""
	case n.kind == text, s.syntax == yamlSyntax && (n.kind == word || n.kind == number):
	default:
		s.fail(n.line, path, "must be a string, got %s", describe(n))
		return ""
	}
	if len(n.text) > maxString {
		s.fail(n.line, path, "must have at most %d bytes, has %d", maxString, len(n.text))
	}
	if !utf8.ValidString(n.text) || strings.ContainsRune(n.text, 0) {
		s.fail(n.line, path, "must be UTF-8 text without NUL, got %.80q", n.text)
	}
	return n.text
}

func describe(n *node) string {
	if n.kind == word || n.kind == number || n.kind == text {
		return strconv.Quote(n.text[:min(len(n.text), 80)])
	}
	return n.kind.String()
}

// integer returns an integer of lo..hi and whether it is set.
func (s *section) integer(key string, lo, hi int64) (int64, bool) {
	n := s.find(key)
	if n == nil {
		return 0, false
	}
	return s.integerNode(s.at(key), n, lo, hi), true
}

// count is integer for a field whose absence means 0.
func (s *section) count(key string, hi int64) int {
	v, _ := s.integer(key, 0, hi)
	return int(v)
}

func (s *section) integerNode(path string, n *node, lo, hi int64) int64 {
	v, ok := s.parseInteger(n)
	if !ok || v < lo || v > hi {
		s.fail(n.line, path, "must be an integer of %d to %d, got %s", lo, hi, describe(n))
		return 0
	}
	return v
}

func (s *section) parseInteger(n *node) (int64, bool) {
	quoted := s.syntax == jsonSyntax && n.kind == text
	if !quoted && n.kind != number && (s.syntax != yamlSyntax || n.kind != word) {
		return 0, false
	}
	base := 10
	if s.syntax == textSyntax {
		base = 0 // 0x1f and 017 are integers there
	}
	v, err := strconv.ParseInt(n.text, base, 64)
	if err == nil {
		return v, true
	}
	if s.syntax == jsonSyntax { // 4.0 and 1e3 are integers in JSON
		f, err := strconv.ParseFloat(n.text, 64)
		if err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
	}
	return 0, false
}

// integers returns a list of integers of lo..hi; nil where none is given.
func (s *section) integers(key string, lo, hi int64) []int64 {
	nodes := s.all(key)
	if len(nodes) == 0 {
		return nil
	}
	out := make([]int64, len(nodes))
	for i, n := range nodes {
		out[i] = s.integerNode(s.at(key)+"["+strconv.Itoa(i)+"]", n, lo, hi)
	}
	return out
}

// boolean returns a truth value, false where it is not set.
func (s *section) boolean(key string) bool {
	n := s.find(key)
	if n == nil {
		return false
	}
	if n.kind == word || s.syntax == textSyntax && n.kind == number {
		switch n.text {
		case "true":
			return true
		case "false":
			return false
		case "t", "True", "1":
			if s.syntax == textSyntax {
				return true
			}
		case "f", "False", "0":
			if s.syntax == textSyntax {
				return false
			}
		}
	}
	s.fail(n.line, s.at(key), "must be true or false, got %s", describe(n))
	return false
}

// enum returns the index in names of the value's name, 0 where it is not set.
// Outside YAML the index itself may stand for the name, as in protobuf.
func (s *section) enum(key string, names ...string) int {
	n := s.find(key)
	if n == nil {
		return 0
	}
	if n.kind == word || n.kind == text && s.syntax != textSyntax {
		if i := slices.Index(names, n.text); i >= 0 {
			return i
		}
	}
	if n.kind == number && s.syntax != yamlSyntax {
		if v, ok := s.parseInteger(n); ok && v >= 0 && v < int64(len(names)) {
			return int(v)
		}
	}
	s.fail(n.line, s.at(key), "must be one of %s, got %s", strings.Join(names, ", "), describe(n))
	return 0
}

// choice returns a string that must be one of names, "" where it is not set.
func (s *section) choice(key string, names ...string) string {
	value := s.str(key)
	if value != "" && !slices.Contains(names, value) {
		s.fail(s.find(key).line, s.at(key), "must be one of %s, got %.80q", strings.Join(names, ", "), value)
		return ""
	}
	return value
}

// duration returns a Go duration ("50ms") of 0..maxDuration; 0 where not set.
func (s *section) duration(key string) time.Duration {
	n := s.find(key)
	if n == nil {
		return 0
	}
	d, err := time.ParseDuration(n.text)
	if err != nil || n.kind != word && n.kind != text || d < 0 || d > maxDuration {
		s.fail(n.line, s.at(key), "must be a duration of 0s to %s such as 50ms, got %s", maxDuration, describe(n))
	}
	return d
}

// micros returns a number of microseconds as a duration; 0 where not set.
func (s *section) micros(key string) time.Duration {
	v, _ := s.integer(key, 0, maxDuration.Microseconds())
	return time.Duration(v) * time.Microsecond
}

// refuse fails where key asks for something that is not offered.
func (s *section) refuse(why string, keys ...string) {
	for _, key := range keys {
		for _, n := range s.any(key) {
			if !n.isDefault() {
				s.fail(n.line, s.at(key), "is not supported: %s", why)
			}
		}
	}
}

// refuseAny fails where key is given at all: these messages ask for something
// even where they are empty.
func (s *section) refuseAny(why string, keys ...string) {
	for _, key := range keys {
		for _, n := range s.any(key) {
			if n.kind != null {
				s.fail(n.line, s.at(key), "is not supported: %s", why)
			}
		}
	}
}

// ignore warns where key asks for something that has no effect here.
func (s *section) ignore(why string, keys ...string) {
	for _, key := range keys {
		for _, n := range s.any(key) {
			if !n.isDefault() {
				s.warn(n.line, s.at(key), why)
				break
			}
		}
	}
}

const maxWarnings = 64

func (d *document) warn(line int, path, why string) {
	if len(d.warnings) < maxWarnings {
		d.warnings = append(d.warnings, failure(d.source, line, path, "has no effect: %s", why).Error())
	}
}

// any returns whatever stands under key, whether or not it repeats.
func (s *section) any(key string) []*node {
	s.known = append(s.known, key)
	var out []*node
	for _, m := range s.node.members {
		if s.named(m, key) {
			out = append(out, m.value)
		}
	}
	return out
}
