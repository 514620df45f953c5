package model

import (
	"fmt"
	"strconv"

	"sluice/internal/platform/fault"
)

// Limits of a configuration file: far above honest use, low enough that a
// hostile one costs nothing.
const (
	maxDocBytes = 1 << 20
	maxDocDepth = 32
	maxDocNodes = 50_000
)

// kind is what a value of a configuration file looks like.
type kind uint8

const (
	null   kind = iota
	word        // unquoted: true, TYPE_FP32, a plain YAML scalar
	number      // a JSON or text-format number
	text        // quoted
	object
	list
)

func (k kind) String() string {
	return [...]string{"nothing", "a word", "a number", "a string", "a group of settings", "a list"}[k]
}

// node is one value of a configuration file. YAML, JSON and text-format
// protobuf all parse to it, so that they share one reader.
type node struct {
	kind    kind
	text    string   // of a word, number or text
	members []member // of an object, in order; the text format may repeat a name
	items   []*node  // of a list
	line    int
}

type member struct {
	name  string
	line  int
	value *node
}

// isDefault reports whether the value is one that a protobuf field has when it
// is not set, so that asking for it asks for nothing.
func (n *node) isDefault() bool {
	switch n.kind {
	case word, number:
		return n.text == "0" || n.text == "false" || n.text == "False" || n.text == "f" || isDefaultName(n.text)
	case text:
		return n.text == "" || isDefaultName(n.text)
	case object:
		for _, m := range n.members {
			if !m.value.isDefault() {
				return false
			}
		}
		return true
	case list:
		return len(n.items) == 0
	default:
		return true
	}
}

// isDefaultName reports whether an enum's name is its zero value's.
func isDefaultName(name string) bool { return name == "FORMAT_NONE" || name == "PRIORITY_DEFAULT" }

// syntax is the notation that a document was written in, where it matters.
type syntax uint8

const (
	yamlSyntax syntax = iota
	jsonSyntax        // camelCase names and quoted integers count too
	textSyntax        // a field is repeated to make a list; a map is key/value messages
)

// document carries what reading a configuration file needs: where it came
// from, and the first error, after which reading goes on but means nothing.
type document struct {
	source   string
	syntax   syntax
	warnings []string
	err      error
}

// fail keeps the first error, with its place in the file.
func (d *document) fail(line int, path, format string, args ...any) {
	if d.err == nil {
		d.err = failure(d.source, line, path, format, args...)
	}
}

// failure names the file, the line where it is known, and the setting.
func failure(source string, line int, path, format string, args ...any) error {
	where := source
	if line > 0 {
		where += ":" + strconv.Itoa(line)
	}
	if path != "" {
		where += ": " + path
	}
	return fault.New(fault.Invalid, "%s: %s", where, fmt.Sprintf(format, args...))
}
