package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"sluice/internal/client"
	"sluice/internal/platform/fault"
)

// column is one of a table: a title, and where its value is in an object, with dots
// for objects within.
type column struct{ title, path string }

// raw writes JSON on a line of its own.
func (p *program) raw(b []byte) error {
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		line.Reset()
		line.WriteString(lines(string(bytes.TrimSpace(b))))
	}
	line.WriteByte('\n')
	_, err := line.WriteTo(p.out)
	return err
}

// table writes things as rows, or each as a line of JSON.
func (p *program) table(columns []column, things iter.Seq2[json.RawMessage, error]) error {
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	return errors.Join(p.rows(w, columns, things), w.Flush())
}

func (p *program) rows(w io.Writer, columns []column, things iter.Seq2[json.RawMessage, error]) error {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = plain(c.title)
	}
	begun := false
	for thing, err := range things {
		if err != nil {
			return err
		}
		if p.output == "json" {
			if err := p.raw(thing); err != nil {
				return err
			}
			continue
		}
		if !begun {
			begun = true
			fmt.Fprintln(w, strings.Join(titles, "\t"))
		}
		var fields map[string]any
		if err := json.Unmarshal(thing, &fields); err != nil {
			return fault.Wrap(fault.Internal, err, "the server's answer cannot be read: is it a Sluice of this version?")
		}
		for i, c := range columns {
			if i > 0 {
				io.WriteString(w, "\t")
			}
			io.WriteString(w, text(at(fields, c.path)))
		}
		io.WriteString(w, "\n")
	}
	return nil
}

// one writes a thing as a table of one row.
func (p *program) one(columns []column, thing json.RawMessage) error {
	return p.table(columns, each([]json.RawMessage{thing}))
}

// call sends a request, and writes the thing that comes back, if one does.
func (p *program) call(ctx context.Context, columns []column, r client.Request) error {
	a, err := p.client.Call(ctx, r)
	if err != nil || len(a.Body) == 0 {
		return err
	}
	return p.one(columns, a.Body)
}

// each yields things that are there already.
func each(list []json.RawMessage) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		for _, thing := range list {
			if !yield(thing, nil) {
				return
			}
		}
	}
}

// at returns what an object has at a path, whose end may be 0: the first of a list.
func at(fields map[string]any, path string) any {
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		return fields[name]
	}
	if list, ok := fields[name].([]any); ok && rest == "0" && len(list) > 0 {
		return list[0]
	}
	inner, _ := fields[name].(map[string]any)
	return at(inner, rest)
}

// text is a value in a cell: on one line, with nothing that a terminal obeys.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return plain(v)
	case float64: // all numbers of JSON; a million is no 1e+06 to people
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	default:
		b, _ := json.Marshal(v) // it came from JSON
		return plain(string(b))
	}
}

// plain replaces control characters: what others have named must not command this
// terminal, nor turn around what is written.
func plain(s string) string { return strings.Map(harmless, s) }

// lines is plain, of a text of several lines.
func lines(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return harmless(r)
	}, s)
}

func harmless(r rune) rune {
	if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
		return '·'
	}
	return r
}
