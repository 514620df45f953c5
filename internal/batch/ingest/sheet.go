package ingest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"

	"sluice/internal/platform/fault"
)

// Sizes of a sheet (Excel's specifications and limits).
const (
	sheetRows    = 1 << 20
	sheetColumns = 1 << 14
)

// sheet reads the rows of a sheet one after the other, and holds one.
type sheet struct {
	book    *book
	body    io.Closer
	bounded *budget
	xml     *xml.Decoder
	most    int64 // bytes of a row, in XML

	ended  bool
	number int64 // of the row, from 1
	cells  []sheetCell
}

// sheetCell is a cell that is not empty.
type sheetCell struct {
	column int // from 0
	text   []byte
	wrong  *RowError // why it has no value
}

func (b *book) sheet(part string) (*sheet, error) {
	body, err := b.open(part)
	if err != nil {
		return nil, err
	}
	s := &sheet{book: b, body: body, bounded: &budget{r: body, left: b.o.bookPart}, most: int64(b.o.MaxRow)}
	s.xml = xml.NewDecoder(s.bounded)
	return s, nil
}

func (s *sheet) close() error { return s.body.Close() }

// token returns the next token; the end of a sheet that has not ended is no end.
func (s *sheet) token() (xml.Token, error) {
	t, err := s.xml.RawToken()
	switch {
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case errors.Is(err, errBudget) && s.number > 0:
		err = fault.New(fault.Unprocessable, "row %d has more than %d bytes", s.number, s.most).WithCode(CodeTooLarge)
	}
	return t, err
}

// next reads the next row that has a value, or returns io.EOF.
func (s *sheet) next() error {
	for !s.ended {
		t, err := s.token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if t.Name.Local != "row" {
				continue
			}
			s.bounded.left = s.most
			if err := s.start(attr(t, "r")); err != nil {
				return err
			}
			if err := s.row(); err != nil || len(s.cells) > 0 {
				return err
			}
		case xml.EndElement:
			s.ended = t.Name.Local == "sheetData"
		}
	}
	return io.EOF
}

// start begins a row, which may say its number.
func (s *sheet) start(said string) error {
	number := s.number + 1
	if said != "" {
		n, err := strconv.ParseInt(said, 10, 64)
		if err != nil || n < number {
			return errors.New("row " + strconv.Quote(said) + " comes behind row " + strconv.FormatInt(s.number, 10))
		}
		number = n
	}
	if number > sheetRows {
		return errors.New("row " + strconv.FormatInt(number, 10) + " is beyond the last that a sheet can have")
	}
	s.number, s.cells = number, s.cells[:0]
	return nil
}

// row reads the cells of a row.
func (s *sheet) row() error {
	for next := 0; ; {
		t, err := s.token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if t.Name.Local != "c" {
				continue
			}
			column := next
			if at := attr(t, "r"); at != "" {
				var ok bool
				if column, ok = columnOf(at); !ok || column < next {
					return errors.New("row " + strconv.FormatInt(s.number, 10) + " has the cell " + strconv.Quote(at[:min(len(at), 20)]) + " in a place where it cannot be")
				}
			}
			if next = column + 1; next > sheetColumns {
				return errors.New("row " + strconv.FormatInt(s.number, 10) + " has more cells than a sheet has columns")
			}
			c, there, err := s.cell(attr(t, "t"), attr(t, "s"))
			if err != nil {
				return err
			}
			if c.column = column; there {
				s.cells = append(s.cells, c)
			}
		case xml.EndElement:
			if t.Name.Local == "row" {
				return nil
			}
		}
	}
}

// columnOf returns the column of a reference such as AB12, from 0.
func columnOf(at string) (column int, ok bool) {
	letters := strings.TrimRight(at, "0123456789")
	if letters == "" || len(letters) > 3 {
		return 0, false
	}
	for _, c := range []byte(letters) {
		if c < 'A' || c > 'Z' {
			return 0, false
		}
		column = 26*column + int(c-'A') + 1
	}
	return column - 1, column <= sheetColumns
}

// cell reads a cell. Of a formula it is the value that was last computed.
func (s *sheet) cell(kind, style string) (c sheetCell, there bool, err error) {
	var value []byte
	var rich richText
	in, formula, has := "", false, false
	for {
		t, err := s.token()
		if err != nil {
			return c, false, err
		}
		if kind == "inlineStr" {
			value = rich.add(t, value)
		}
		switch t := t.(type) {
		case xml.StartElement:
			in = t.Name.Local
			formula = formula || in == "f"
			has = has || in == "v" || in == "is"
		case xml.CharData:
			if in == "v" && kind != "inlineStr" {
				value = append(value, t...)
			}
		case xml.EndElement:
			if in = ""; t.Name.Local != "c" {
				continue
			}
			switch {
			case has:
				c.text, c.wrong = s.value(kind, style, value)
			case formula:
				c.wrong = bad(CodeMissing, "the file does not have the value of the cell's formula: open it in a spreadsheet program, and save it there")
			}
			return c, has || formula, nil
		}
	}
}

// value is what a cell says, as text.
func (s *sheet) value(kind, style string, value []byte) ([]byte, *RowError) {
	switch kind {
	case "inlineStr", "d":
		return value, nil
	case "str":
		return unescape(value), nil
	case "s":
		i, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		text, ok := s.book.shared(i)
		if err != nil || !ok {
			return nil, bad(CodeMissing, "the cell's text is not in the workbook")
		}
		return text, nil
	case "b":
		if string(value) == "1" {
			return []byte("true"), nil
		}
		return []byte("false"), nil
	case "e":
		return nil, bad(CodeType, "the cell has the error %s", shown(value))
	}
	value = bytes.TrimSpace(value)
	if i, err := strconv.Atoi(style); err == nil && i >= 0 && i < len(s.book.dates) && s.book.dates[i] != noDate {
		if text, ok := s.book.dates[i].text(value, s.book.since); ok {
			return text, nil
		}
	}
	return whole15(value), nil
}

// whole15 is a number as it is usually written: spreadsheets have no whole numbers of their
// own, and write large ones with an exponent.
func whole15(value []byte) []byte {
	if !bytes.ContainsAny(value, ".eE") {
		return value
	}
	x, err := strconv.ParseFloat(string(value), 64)
	if err != nil || x != float64(int64(x)) || x > 1<<53 || x < -1<<53 {
		return value
	}
	return strconv.AppendInt(nil, int64(x), 10)
}
