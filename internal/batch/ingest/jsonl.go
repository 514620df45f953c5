package ingest

import (
	"bytes"
	"encoding/json"
)

// objects are rows of JSON Lines: an object each.
type objects struct {
	wanted map[string]int
	cells  [][]byte // nil: the row has none
}

func newObjects(wanted []string) *objects {
	o := &objects{wanted: make(map[string]int, len(wanted)), cells: make([][]byte, len(wanted))}
	for i, name := range wanted {
		o.wanted[name] = i
	}
	return o
}

func (o *objects) take(record []byte) *RowError {
	clear(o.cells)
	if !json.Valid(record) {
		return bad(CodeNotJSON, "the line is not JSON")
	}
	w := walker{bytes.TrimSpace(record)}
	if w.b[0] != '{' {
		return bad(CodeNotJSON, "the line is no JSON object")
	}
	w.b = w.b[1:]
	for w.space(); w.b[0] != '}'; w.space() {
		if w.b[0] == ',' {
			w.b = w.b[1:]
			w.space()
		}
		name := w.value()
		w.space()
		w.b = w.b[1:] // the colon
		w.space()
		value := w.value()
		i, ok := o.place(name)
		switch {
		case !ok:
		case o.cells[i] != nil:
			return bad(CodeNotJSON, "the object has %s twice", shown(name))
		default:
			o.cells[i] = value
		}
	}
	return nil
}

// Lines splits lines of JSON, an object each, into the values of some of its members.
type Lines struct{ objects *objects }

// NewLines returns a splitter for the members of these names.
func NewLines(names []string) *Lines { return &Lines{newObjects(names)} }

// Cells returns the values in the order of the names, as JSON; nil for one that is not
// there. They are valid as long as the line is, and until the next call.
func (l *Lines) Cells(line []byte) ([][]byte, error) {
	if wrong := l.objects.take(line); wrong != nil {
		return nil, wrong
	}
	return l.objects.cells, nil
}

// place returns the place of the column that a JSON text names.
func (o *objects) place(name []byte) (int, bool) {
	if plain := name[1 : len(name)-1]; bytes.IndexByte(plain, '\\') < 0 {
		i, ok := o.wanted[string(plain)]
		return i, ok
	}
	i, ok := o.wanted[unquote(name)]
	return i, ok
}

func unquote(text []byte) string {
	var s string
	_ = json.Unmarshal(text, &s) // it is valid
	return s
}

func (o *objects) quick([]byte) bool { return false }

func (o *objects) cell(column int) []byte { return o.cells[column] }

func (o *objects) element(dst []byte, t Type, cell []byte) ([]byte, *RowError) {
	if cell[0] == '[' {
		return appendList(dst, t, 1, cell)
	}
	return appendJSON(dst, t, cell)
}

func (o *objects) list(dst []byte, t Type, width int, cell []byte) ([]byte, *RowError) {
	return appendList(dst, t, width, cell)
}

func (o *objects) text(cell []byte) ([]byte, *RowError) {
	switch {
	case cell[0] == '"':
		return []byte(unquote(cell)), nil
	case cell[0] == '-', cell[0] >= '0' && cell[0] <= '9':
		return cell, nil
	}
	return nil, bad(CodeID, "the row's name is neither a text nor a number")
}

// appendJSON appends the element that a JSON value is.
func appendJSON(dst []byte, t Type, value []byte) ([]byte, *RowError) {
	switch c := value[0]; {
	case c == 'n':
		return dst, bad(CodeMissing, "there is no value")
	case t == Bytes && c == '"':
		return appendBytes(dst, []byte(unquote(value))), nil
	case t == Bytes:
		return dst, bad(CodeType, "%s is no text", shown(value))
	case t == "BOOL" && (c == 't' || c == 'f'):
		return appendBool(dst, value)
	case t != "BOOL" && (c == '-' || c >= '0' && c <= '9'):
		return appendNumber(dst, t, value)
	case t == "BOOL":
		return dst, bad(CodeType, "%s is neither true nor false", shown(value))
	}
	return dst, bad(CodeType, "%s is no number", shown(value))
}

// appendList appends the elements of a JSON list, nested or not.
func appendList(dst []byte, t Type, width int, text []byte) ([]byte, *RowError) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return dst, bad(CodeMissing, "there is no value")
	}
	if !json.Valid(text) || text[0] != '[' {
		return dst, bad(CodeShape, "%s is no JSON list of %d elements", shown(text), width)
	}
	n := 0
	for w := (walker{text}); len(w.b) > 0; {
		switch w.b[0] {
		case '[', ']', ',', ' ', '\t', '\n', '\r':
			w.b = w.b[1:]
			continue
		}
		var wrong *RowError
		if n++; n > width {
			break
		}
		if dst, wrong = appendJSON(dst, t, w.value()); wrong != nil {
			return dst, wrong
		}
	}
	if n != width {
		return dst, bad(CodeShape, "the list does not have %d elements", width)
	}
	return dst, nil
}

// walker goes through JSON that is known to be valid.
type walker struct{ b []byte }

func (w *walker) space() {
	for len(w.b) > 0 && (w.b[0] == ' ' || w.b[0] == '\t' || w.b[0] == '\n' || w.b[0] == '\r') {
		w.b = w.b[1:]
	}
}

// value takes a value off the front.
func (w *walker) value() []byte {
	depth, i := 0, 0
	for i < len(w.b) {
		switch c := w.b[i]; c {
		case '"':
			i += w.string(i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return w.take(i)
			}
			depth--
			i++
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return w.take(i)
			}
			i++
			continue
		case ':':
			if depth == 0 {
				return w.take(i)
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return w.take(i)
		}
	}
	return w.take(i)
}

// string returns the length of the text that begins at i.
func (w *walker) string(i int) int {
	n := 1
	for ; w.b[i+n] != '"'; n++ {
		if w.b[i+n] == '\\' {
			n++
		}
	}
	return n + 1
}

func (w *walker) take(n int) []byte {
	value := w.b[:n]
	w.b = w.b[n:]
	return value
}
