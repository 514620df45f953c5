package ingest

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/platform/fault"
)

// Dialect says how a CSV file is written (RFC 4180, and what else is found).
type Dialect struct {
	Delimiter string `json:"delimiter,omitempty"` // one byte
	Quote     string `json:"quote,omitempty"`     // one byte, or "none"
	Header    *bool  `json:"header,omitempty"`    // whether the first row names the columns; without it they are called 1, 2, …
	Decimal   string `json:"decimal,omitempty"`   // "." or ","
	Guessed   bool   `json:"-"`                   // the header looks like all other rows: it may be none
	Old       bool   `json:"old,omitempty"`       // lines end with a lone carriage return
}

// Check returns what is wrong with a dialect that somebody has chosen.
func (d Dialect) Check() error {
	one := func(s string) bool { return len(s) == 1 && s[0] < 0x80 && s != "\n" && s != "\r" && s != "\x00" }
	switch {
	case d.Delimiter != "" && !one(d.Delimiter):
		return fault.New(fault.Unprocessable, "the delimiter %q is not one ASCII character", fault.Clip(d.Delimiter, 20)).WithCode("dialect_invalid")
	case d.Quote != "" && d.Quote != "none" && !one(d.Quote) || cmp.Or(d.Quote, `"`) == d.Delimiter:
		return fault.New(fault.Unprocessable, `the quote %q is not one ASCII character beside the delimiter, nor "none"`, fault.Clip(cmp.Or(d.Quote, `"`), 20)).WithCode("dialect_invalid")
	case d.Decimal != "" && d.Decimal != "." && d.Decimal != ",", d.Decimal == "," && d.Delimiter == ",":
		return fault.New(fault.Unprocessable, "the decimal sign %q is not a point, or a comma beside another delimiter", fault.Clip(d.Decimal, 20)).WithCode("dialect_invalid")
	}
	return nil
}

func (d Dialect) quote() byte {
	if d.Quote == "" || d.Quote == "none" {
		return 0
	}
	return d.Quote[0]
}

// sample is how many rows the dialect is told by.
const sample = 50

// complete finds out by a file's beginning what a dialect leaves open. The columns are
// those that are wanted: where the first row names one of them it is a header.
func (d Dialect) complete(head []byte, columns []string) Dialect {
	if d.Quote == "" {
		d.Quote = `"`
	}
	d.Old = bytes.IndexByte(head, '\n') < 0 && bytes.IndexByte(head, '\r') >= 0
	if d.Delimiter == "" {
		d.Delimiter = d.guess(head)
	}
	rows := d.rows(head, d.Delimiter)
	if d.Header == nil {
		d.Header = new(len(rows) > 0 && named(rows[0], columns))
		d.Guessed = *d.Header && !slices.ContainsFunc(rows, func(row []string) bool { return slices.ContainsFunc(row, value) })
	}
	if d.Decimal == "" {
		d.Decimal = "."
		if d.Delimiter != "," && decimalCommas(rows) {
			d.Decimal = ","
		}
	}
	return d
}

// guess returns the delimiter that cuts most rows into equally many cells, of those
// the one that cuts them into most. A comma yields to another that cuts all alike: it may
// be a decimal sign.
func (d Dialect) guess(head []byte) string {
	best, most, all := ",", 0, false
	for _, delimiter := range []string{";", "\t", "|", ","} {
		if delimiter == d.Decimal || delimiter == d.Quote || delimiter == "," && all {
			continue
		}
		rows := d.rows(head, delimiter)
		alike := 0
		for _, row := range rows {
			if len(row) == len(rows[0]) && len(row) > 1 {
				alike++
			}
		}
		if score := alike * 1000; alike > 0 && score+len(rows[0]) > most {
			best, most, all = delimiter, score+len(rows[0]), alike == len(rows)
		}
	}
	return best
}

// rows returns the first rows of a file's beginning. The last may be cut off there.
func (d Dialect) rows(head []byte, delimiter string) [][]string {
	s := newScanner(bytes.NewReader(head), Position{}, len(head))
	s.delimiter, s.quote = delimiter[0], d.quote()
	if d.Old {
		s.eol = '\r'
	}
	var rows [][]string
	for len(rows) < sample {
		record, err := s.record()
		if err != nil {
			break
		}
		cells, bad := s.split(record, nil)
		if bad != nil {
			continue
		}
		row := make([]string, len(cells))
		for i, c := range cells {
			row[i] = string(c)
		}
		rows = append(rows, row)
	}
	if len(rows) > 1 && len(rows) < sample && len(head) >= headSize {
		rows = rows[:len(rows)-1]
	}
	return rows
}

// named says whether a row names all the columns, or looks like names.
func named(row, columns []string) bool {
	is := func(name string) func(cell string) bool {
		return func(cell string) bool { return strings.TrimSpace(cell) == name }
	}
	if len(columns) > 0 && !slices.ContainsFunc(columns, func(c string) bool { return !slices.ContainsFunc(row, is(c)) }) {
		return true
	}
	return !slices.ContainsFunc(row, value)
}

// value says whether a cell is a number, or none: what names no column.
func value(cell string) bool {
	cell = strings.TrimSpace(cell)
	_, err := strconv.ParseFloat(string(commas([]byte(cell))), 64)
	return err == nil || cell == "" || slices.Contains([]string{"NA", "N/A", "NULL", "NONE"}, strings.ToUpper(cell))
}

// decimalCommas says whether numbers have commas where others have points.
func decimalCommas(rows [][]string) bool {
	commas := 0
	for _, row := range rows {
		for _, cell := range row {
			whole, part, comma := bytes.Cut([]byte(cell), []byte{','})
			switch {
			case digits(cell) && strings.Contains(cell, "."):
				return false
			case comma && digits(string(whole)) && digits(string(part)):
				commas++
			}
		}
	}
	return commas > 0
}

// digits says whether a text has digits, and nothing else but a sign or a point.
func digits(s string) bool {
	some := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			some = true
		case c == '.', i == 0 && (c == '-' || c == '+'):
		default:
			return false
		}
	}
	return some
}
