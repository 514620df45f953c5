// Package csv writes tables as RFC 4180 CSV that spreadsheets and data frames
// read back as it was: typed numbers are never touched, null differs from an
// empty text, and a text that a spreadsheet would run is disarmed.
package csv

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"sluice/internal/batch/encode/cell"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Options are a dialect. The zero value is RFC 4180 with the formula guard on,
// times in UTC, and nothing between two delimiters for null.
type Options struct {
	BOM       bool   // starts with a UTF-8 byte order mark, without which Excel garbles what is not ASCII
	Delimiter byte   // ',' (also where 0), ';', '\t' or '|'
	Decimal   byte   // '.' (also where 0) or ',', in floats only
	Null      string // what stands for null; a text that is the same is quoted, as is an empty one
	// RawFormulas leaves texts as they are that a spreadsheet takes for a formula
	// (OWASP ASVS 5 1.2.10). Else those get an apostrophe in front.
	RawFormulas bool
	Zone        *time.Location // of times; UTC where nil
}

// Check returns what is wrong with the options, as a fault of kind Invalid.
func (o Options) Check() error {
	o = o.defaults()
	switch {
	case !strings.ContainsRune(",;\t|", rune(o.Delimiter)):
		return fault.New(fault.Invalid, "a delimiter is one of comma, semicolon, tab and |, not %q", o.Delimiter).WithCode("option_invalid")
	case o.Decimal != '.' && o.Decimal != ',':
		return fault.New(fault.Invalid, "a decimal mark is a point or a comma, not %q", o.Decimal).WithCode("option_invalid")
	case o.Decimal == o.Delimiter:
		return fault.New(fault.Invalid, "decimal comma and comma as delimiter cannot be told apart: set the delimiter to ;").WithCode("option_invalid")
	case len(o.Null) > 16 || strings.ContainsAny(o.Null, "\"\r\n\x00") || strings.IndexByte(o.Null, o.Delimiter) >= 0:
		return fault.New(fault.Invalid, "the text for null has at most 16 bytes, and neither quotes nor line ends nor the delimiter in it").WithCode("option_invalid")
	}
	return nil
}

func (o Options) defaults() Options {
	if o.Delimiter == 0 {
		o.Delimiter = ','
	}
	if o.Decimal == 0 {
		o.Decimal = '.'
	}
	return o
}

// bufferSize is how much is encoded before it is handed on.
const bufferSize = 64 << 10

// Writer writes a table. It is not for concurrent use.
type Writer struct {
	out   io.Writer
	o     Options
	clock *cell.Clock
	buf   []byte
	// special marks the bytes that make a text be quoted.
	special [256]bool
	err     error // the first failure, which stays
}

// NewWriter returns a writer that has written the header. The options must be
// right (see Check).
func NewWriter(out io.Writer, schema table.Schema, o Options) *Writer {
	o = o.defaults()
	w := &Writer{out: out, o: o, clock: cell.NewClock(o.Zone), buf: make([]byte, 0, bufferSize+4096)}
	for _, c := range []byte{o.Delimiter, '"', '\r', '\n'} {
		w.special[c] = true
	}
	if o.BOM {
		w.buf = append(w.buf, "\xef\xbb\xbf"...)
	}
	for i, f := range schema {
		if i > 0 {
			w.buf = append(w.buf, o.Delimiter)
		}
		w.text([]byte(f.Name))
	}
	w.buf = append(w.buf, "\r\n"...)
	return w
}

// Write implements table.Writer.
func (w *Writer) Write(c *table.Chunk) error {
	if w.err == nil {
		w.err = c.Check()
	}
	columns := len(c.Schema())
	for row := 0; row < c.Rows() && w.err == nil; row++ {
		start := len(w.buf)
		for i := range columns {
			if i > 0 {
				w.buf = append(w.buf, w.o.Delimiter)
			}
			w.cell(c.Column(i), row)
		}
		if len(w.buf) == start { // an empty line is no row to most readers
			w.buf = append(w.buf, `""`...)
		}
		w.buf = append(w.buf, "\r\n"...)
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

func (w *Writer) cell(c *table.Column, row int) {
	if c.Null(row) {
		w.buf = append(w.buf, w.o.Null...)
		return
	}
	switch c.Type {
	case table.String:
		w.text(c.Text(row))
	case table.JSON:
		if text := c.Text(row); len(text) > 0 && text[0] == '-' && json.Valid(text) {
			w.buf = append(w.buf, text...) // a number
		} else {
			w.text(text)
		}
	case table.Int:
		w.buf = cell.AppendInt(w.buf, c.Ints[row])
	case table.Float:
		start := len(w.buf)
		w.buf = cell.AppendFloat(w.buf, c.Floats[row])
		w.decimal(start)
	case table.Float32:
		start := len(w.buf)
		w.buf = cell.AppendFloat32(w.buf, c.Float32s[row])
		w.decimal(start)
	case table.Bool:
		w.buf = cell.AppendBool(w.buf, c.Bools[row])
	case table.Time:
		var ok bool
		if w.buf, ok = w.clock.AppendTime(w.buf, c.Ints[row]); !ok {
			w.err = cell.ErrTime(c.Ints[row])
		}
	}
}

func (w *Writer) decimal(start int) {
	if w.o.Decimal == '.' {
		return
	}
	if i := bytes.IndexByte(w.buf[start:], '.'); i >= 0 {
		w.buf[start+i] = w.o.Decimal
	}
}

// text writes a text, quoted where it must be: also where it would be taken for
// null without.
func (w *Writer) text(text []byte) {
	if !w.o.RawFormulas && formula(text) {
		w.quoted('\'', text)
		return
	}
	for _, b := range text {
		if w.special[b] {
			w.quoted(0, text)
			return
		}
	}
	if string(text) == w.o.Null || len(text) == 0 || text[0] == ' ' || text[len(text)-1] == ' ' {
		w.quoted(0, text)
		return
	}
	w.buf = append(w.buf, text...)
}

// quoted writes a text in quotes, behind a first character unless that is 0.
func (w *Writer) quoted(first byte, text []byte) {
	w.buf = append(w.buf, '"')
	if first != 0 {
		w.buf = append(w.buf, first)
	}
	for {
		i := bytes.IndexByte(text, '"')
		if i < 0 {
			break
		}
		w.buf = append(w.buf, text[:i]...)
		w.buf = append(w.buf, `""`...)
		text = text[i+1:]
	}
	w.buf = append(w.buf, text...)
	w.buf = append(w.buf, '"')
}

// number reports whether all of a text is a number in decimal, which a spreadsheet
// runs nothing of.
func number(text []byte) bool {
	if _, err := strconv.ParseFloat(string(text), 64); err != nil && !errors.Is(err, strconv.ErrRange) {
		return false
	}
	return len(bytes.Trim(text, "+-.0123456789eE")) == 0 // Go knows others
}

// formula reports whether a spreadsheet would take a text for a formula.
func formula(text []byte) bool {
	if len(text) == 0 {
		return false
	}
	switch text[0] {
	case '+', '-':
		return !number(text)
	case '=', '@', '\t', '\r', '\n', 0:
		return true
	case 0xef: // the same in full width, which some locales take for it
		switch string(text[:min(3, len(text))]) {
		case "＝", "＋", "－", "＠":
			return true
		}
	}
	return false
}
