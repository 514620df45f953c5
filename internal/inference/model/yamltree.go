package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// parseYAML returns the tree of a YAML document. Anchors, aliases, merge keys
// and tags are refused: a configuration needs none, and they are how a small
// file becomes a large one.
func parseYAML(data []byte) (*node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDocDepth))))
	if err != nil {
		return nil, err
	}
	var doc, second yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF): // nothing but comments
		return &node{line: 1}, nil
	case err != nil:
		return nil, fmt.Errorf("not valid YAML: %w", err)
	}
	if err := loader.Load(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("must hold a single YAML document")
	}
	b := yamlBuilder{left: maxDocNodes}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return b.build(&doc)
	}
	return b.build(doc.Content[0])
}

type yamlBuilder struct{ left int }

func (b *yamlBuilder) build(y *yaml.Node) (*node, error) {
	if b.left--; b.left < 0 {
		return nil, fmt.Errorf("has more than %d values", maxDocNodes)
	}
	if y.Anchor != "" || y.Kind == yaml.AliasNode {
		return nil, fmt.Errorf("line %d: anchors and aliases are not supported", y.Line)
	}
	if y.Style&yaml.TaggedStyle != 0 {
		return nil, fmt.Errorf("line %d: the tag %.40q is not supported", y.Line, y.Tag)
	}
	n := &node{line: y.Line, text: y.Value}
	switch y.Kind {
	case yaml.MappingNode:
		return n, b.object(n, y)
	case yaml.SequenceNode:
		n.kind = list
		for _, item := range y.Content {
			child, err := b.build(item)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, child)
		}
	case yaml.ScalarNode:
		n.kind = yamlScalar(y)
	default:
		return nil, fmt.Errorf("line %d: expected a setting", y.Line)
	}
	return n, nil
}

func (b *yamlBuilder) object(n *node, y *yaml.Node) error {
	n.kind = object
	seen := map[string]bool{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, err := b.build(y.Content[i])
		if err != nil {
			return err
		}
		switch {
		case key.kind != word && key.kind != text:
			return fmt.Errorf("line %d: a key must be a word, got %s", key.line, key.kind)
		case key.text == "<<" && key.kind == word:
			return fmt.Errorf("line %d: merge keys are not supported", key.line)
		case seen[key.text]:
			return fmt.Errorf("line %d: key %.80q is given twice", key.line, key.text)
		}
		seen[key.text] = true
		value, err := b.build(y.Content[i+1])
		if err != nil {
			return err
		}
		n.members = append(n.members, member{name: key.text, line: key.line, value: value})
	}
	return nil
}

func yamlScalar(y *yaml.Node) kind {
	switch {
	case y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return text
	case y.ShortTag() == "!!null":
		return null
	}
	return word
}
