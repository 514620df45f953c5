// Package jsonl writes tables as JSON Lines: an object on each line, all with
// the same members in the same order.
package jsonl

import (
	"bytes"
	"encoding/json"
	"io"
	"time"
	"unicode/utf8"

	"sluice/internal/batch/encode/cell"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

const bufferSize = 64 << 10

// Writer writes a table. It is not for concurrent use.
type Writer struct {
	out   io.Writer
	clock *cell.Clock
	names [][]byte // each with what is before the value: {"a": or ,"b":
	buf   []byte
	rows  int64
	err   error // the first failure, which stays
}

// NewWriter returns a writer that tells times in a zone; nil is UTC.
func NewWriter(out io.Writer, schema table.Schema, zone *time.Location) *Writer {
	w := &Writer{out: out, clock: cell.NewClock(zone), buf: make([]byte, 0, bufferSize+4096)}
	for i, f := range schema {
		name := []byte{','}
		if i == 0 {
			name[0] = '{'
		}
		w.names = append(w.names, append(appendString(name, []byte(f.Name)), ':'))
	}
	return w
}

// Write implements table.Writer.
func (w *Writer) Write(c *table.Chunk) error {
	if w.err == nil {
		w.err = c.Check()
	}
	for row := 0; row < c.Rows() && w.err == nil; row++ {
		for i, name := range w.names {
			w.buf = append(w.buf, name...)
			w.value(c, i, row)
		}
		w.buf = append(w.buf, "}\n"...)
		w.rows++
		if len(w.buf) >= bufferSize {
			w.flush()
		}
	}
	return w.err
}

// Close implements table.Writer.
func (w *Writer) Close() error {
	w.flush()
	return w.err
}

func (w *Writer) flush() {
	if w.err == nil {
		_, w.err = w.out.Write(w.buf)
	}
	w.buf = w.buf[:0]
	if cap(w.buf) > 4*bufferSize { // a huge cell went through
		w.buf = make([]byte, 0, bufferSize+4096)
	}
}

func (w *Writer) value(chunk *table.Chunk, i, row int) {
	c := chunk.Column(i)
	if c.Null(row) {
		w.buf = append(w.buf, "null"...)
		return
	}
	switch c.Type {
	case table.String:
		w.buf = appendString(w.buf, c.Text(row))
	case table.JSON:
		w.json(c.Text(row), chunk.Schema()[i].Name)
	case table.Int:
		w.buf = cell.AppendInt(w.buf, c.Ints[row])
	case table.Float:
		quote := !cell.Finite(c.Floats[row])
		w.buf = append(cell.AppendFloat(w.quote(quote), c.Floats[row]), `"`[:one(quote)]...)
	case table.Float32:
		quote := !cell.Finite(float64(c.Float32s[row]))
		w.buf = append(cell.AppendFloat32(w.quote(quote), c.Float32s[row]), `"`[:one(quote)]...)
	case table.Bool:
		w.buf = cell.AppendBool(w.buf, c.Bools[row])
	case table.Time:
		text, ok := w.clock.AppendTime(w.quote(true), c.Ints[row])
		if !ok {
			w.err = cell.ErrTime(c.Ints[row])
		}
		w.buf = append(text, '"')
	}
}

func (w *Writer) quote(yes bool) []byte { return append(w.buf, `"`[:one(yes)]...) }

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// json writes a value as it is, on one line. It must be checked: one that is
// none would break every reader of the file.
func (w *Writer) json(value []byte, column string) {
	if !json.Valid(value) {
		w.err = fault.New(fault.Internal, "row %d, column %q: not a JSON value", w.rows+1, column)
		return
	}
	if bytes.ContainsAny(value, "\r\n") {
		var line bytes.Buffer
		if w.err = json.Compact(&line, value); w.err != nil {
			return
		}
		value = line.Bytes()
	}
	w.buf = append(w.buf, value...)
}

// plain marks the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != 0x7f
	}
	return t
}()

const hex = "0123456789abcdef"

// appendString appends a JSON string. Line separators of Unicode are escaped,
// since some readers end lines there; bytes that are not UTF-8 become U+FFFD.
func appendString(dst, text []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		b := text[i]
		if plain[b] {
			i++
			continue
		}
		if b >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(append(dst, text[start:i]...), `\ufffd`...)
			case r == '\u2028' || r == '\u2029' || r == '\u0085':
				dst = append(append(dst, text[start:i]...), '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			default:
				i += size
				continue
			}
			i += size
			start = i
			continue
		}
		dst = append(dst, text[start:i]...)
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
		i++
		start = i
	}
	return append(append(dst, text[start:]...), '"')
}
