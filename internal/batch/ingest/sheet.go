package ingest

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Sizes of a sheet (Excel's specifications and limits).
const (
	sheetRows    = 1 << 20
	sheetColumns = 1 << 14
)

// hopeless is how many times as large as it may be a row is that is not passed over any more,
// but ends the sheet: it may claim cells without end, and be nothing in the archive.
const hopeless = 64

// sheet reads the rows of a sheet one after the other, and holds one.
type sheet struct {
	book    *book
	body    io.Closer
	bounded *budget
	xml     *xml.Decoder
	most    int64 // bytes of a row, as size counts them

	ended  bool
	number int64 // of the row, from 1
	cells  []sheetCell
	wrong  *RowError // why the row has no cells
	shared int64     // bytes of texts that cells share, as often as they are there
}

// size is how many bytes the rows so far have, in XML and of the texts that they share.
func (s *sheet) size() int64 { return s.bounded.n + s.shared }

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
	s := &sheet{book: b, body: body, bounded: &budget{r: bufio.NewReaderSize(body, 64<<10), left: b.o.bookPart}, most: max(int64(b.o.MaxRow), 64)}
	s.xml = xml.NewDecoder(s.bounded)
	return s, nil
}

func (s *sheet) close() error { return s.body.Close() }

// rest reads what is behind the rows, at whose end it is known whether all has its
// checksum.
func (s *sheet) rest() error {
	_, err := io.Copy(io.Discard, s.bounded.r)
	return err
}

// token returns the next token; the end of a sheet that has not ended is no end.
func (s *sheet) token() (xml.Token, error) {
	t, err := s.xml.RawToken()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return t, err
}

// next reads the next row that has a value, or that something is wrong with, or returns
// io.EOF.
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
			if err := s.bear(s.row()); err != nil || len(s.cells) > 0 || s.wrong != nil {
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
	s.number, s.cells, s.wrong = number, s.cells[:0], nil
	return nil
}

// bear goes on behind a row that cannot be read, which costs no others.
func (s *sheet) bear(err error) error {
	wrong, isRow := errors.AsType[*RowError](err)
	if isRow {
		err = s.pass()
	}
	if errors.Is(err, errBudget) {
		if !isRow {
			wrong = bad(CodeTooLarge, "the row has more than %d bytes", s.most)
		}
		err = s.bounded.skip("row", hopeless*s.most)
		s.xml = xml.NewDecoder(s.bounded)
	}
	if s.bounded.left = s.most; wrong != nil {
		s.wrong, s.cells = wrong, s.cells[:0]
	}
	return err
}

// pass passes over the rest of a row.
func (s *sheet) pass() error {
	for {
		t, err := s.token()
		if e, is := t.(xml.EndElement); err != nil || is && e.Name.Local == "row" {
			return err
		}
	}
}

// row reads the cells of a row. What is wrong with it alone is a RowError.
func (s *sheet) row() error {
	begin := s.size()
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
					return bad(CodeShape, "the row has the cell %s in a place where it cannot be", shown([]byte(at)))
				}
			}
			if next = column + 1; next > sheetColumns {
				return bad(CodeShape, "the row has more cells than a sheet has columns")
			}
			c, there, err := s.cell(attr(t, "t"), attr(t, "s"))
			if err != nil {
				return err
			}
			if c.column = column; there {
				s.cells = append(s.cells, c)
			}
			if s.size()-begin > s.most {
				return bad(CodeTooLarge, "the row has more than %d bytes", s.most)
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
			return nil, bad(CodeMissing, "the cell's text is not in the workbook, which is damaged: save it anew in a spreadsheet program")
		}
		s.shared += int64(len(text))
		return text, nil
	case "b":
		is, err := strconv.ParseBool(string(bytes.TrimSpace(value)))
		if err != nil {
			return nil, bad(CodeType, "the cell is %s, where true or false is expected", shown(value))
		}
		return strconv.AppendBool(nil, is), nil
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
