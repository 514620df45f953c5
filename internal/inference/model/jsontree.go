package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// parseJSON returns the tree of a JSON document. Unlike encoding/json it
// refuses repeated keys.
func parseJSON(data []byte) (*node, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	p := jsonParser{dec: dec, data: data, left: maxDocNodes}
	root, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has text after its JSON value")
	}
	return root, nil
}

type jsonParser struct {
	dec  *json.Decoder
	data []byte
	left int
	// line counts the lines of data[:seen].
	line, seen int
}

func (p *jsonParser) place() int {
	to := int(p.dec.InputOffset())
	p.line += bytes.Count(p.data[p.seen:to], []byte("\n"))
	p.seen = to
	return p.line + 1
}

func (p *jsonParser) value(depth int) (*node, error) {
	token, err := p.dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("line %d: not valid JSON: %w", p.place(), err)
	}
	n := &node{line: p.place()}
	if p.left--; p.left < 0 {
		return nil, fmt.Errorf("has more than %d values", maxDocNodes)
	}
	if depth > maxDocDepth {
		return nil, fmt.Errorf("line %d: is nested more than %d deep", n.line, maxDocDepth)
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return n, p.object(n, depth)
		}
		return n, p.list(n, depth)
	case string:
		n.kind, n.text = text, t
	case json.Number:
		n.kind, n.text = number, t.String()
	case bool:
		n.kind, n.text = word, strconv.FormatBool(t)
	}
	return n, nil
}

func (p *jsonParser) object(n *node, depth int) error {
	n.kind = object
	seen := map[string]bool{}
	for p.dec.More() {
		key, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		if seen[key.text] {
			return fmt.Errorf("line %d: key %.80q is given twice", key.line, key.text)
		}
		seen[key.text] = true
		value, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{name: key.text, line: key.line, value: value})
	}
	return p.close()
}

func (p *jsonParser) list(n *node, depth int) error {
	n.kind = list
	for p.dec.More() {
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	return p.close()
}

func (p *jsonParser) close() error {
	if _, err := p.dec.Token(); err != nil {
		return fmt.Errorf("line %d: not valid JSON: %w", p.place(), err)
	}
	return nil
}
