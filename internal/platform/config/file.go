package config

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// fromYAML applies a configuration file. It walks the syntax tree instead of
// decoding into the struct, so that every message can name the line and the
// nearest key.
func (l *loader) fromYAML(path string, data []byte) {
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return // an empty file sets nothing
	case err != nil:
		l.problem("%s: %s", path, err)
		return
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.problem("%s: expected one YAML document", path)
		return
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root := doc.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			return
		}
		l.section(path, "", root)
	}
}

// section applies a mapping; prefix is "" or ends in a dot.
func (l *loader) section(path, prefix string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		l.problem("%s:%d: expected a mapping of settings%s", path, n.Line, inSection(prefix))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		switch {
		case name.Kind != yaml.ScalarNode:
			l.problem("%s:%d: expected the name of a setting%s", path, name.Line, inSection(prefix))
		case seen[key]:
			l.problem("%s:%d: %s is set twice", path, name.Line, key)
		case slices.Contains(l.sections, key):
			l.section(path, key+".", value)
		default:
			l.setting(path, key, name.Line, value)
		}
		seen[key] = true
	}
}

// setting applies one leaf.
func (l *loader) setting(path, key string, line int, value *yaml.Node) {
	i := slices.IndexFunc(l.fields, func(f field) bool { return f.key == key })
	if i < 0 {
		known := slices.Clone(l.sections)
		for _, f := range l.fields {
			known = append(known, f.key)
		}
		l.problem("%s:%d: unknown key %q; %s", path, line, key, hint(key, known))
		return
	}
	f := l.fields[i]
	_, isList := f.value.Interface().([]string)
	source := fmt.Sprintf("%s:%d: %s", path, line, key)
	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		l.apply(f, value.Value, source)
	case value.Kind == yaml.SequenceNode && isList:
		var items []string
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode || strings.Contains(item.Value, ",") {
				l.problem("%s:%d: %s is a list of plain names", path, item.Line, key)
				return
			}
			items = append(items, item.Value)
		}
		l.apply(f, strings.Join(items, ","), source)
	case isList:
		l.problem("%s:%d: %s needs a list or a text separated by commas", path, line, key)
	default:
		l.problem("%s:%d: %s needs one plain value", path, line, key)
	}
}

func inSection(prefix string) string {
	if prefix == "" {
		return ""
	}
	return " in section " + strings.TrimSuffix(prefix, ".")
}
