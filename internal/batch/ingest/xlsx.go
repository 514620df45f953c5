package ingest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// manifestSheet is what Sluice's own workbooks say of themselves: no rows.
const manifestSheet = "_manifest"

func inspectBook(ctx context.Context, src Source, f File, s *Spec, o Options) (_ File, err error) {
	err = guarded(func() error { f, err = describeBook(ctx, src, f, s, o); return err })
	return f, unended(err)
}

func describeBook(ctx context.Context, src Source, f File, s *Spec, o Options) (File, error) {
	b, err := openBook(ctx, src, o)
	if err != nil {
		return f, err
	}
	if f.Sheet, err = b.choose(ctx, f.Sheet); err != nil {
		return f, err
	}
	rows, err := b.rows(f.Sheet)
	if err != nil {
		return f, err
	}
	defer func() { _ = rows.close() }()
	if err := rows.next(); errors.Is(err, io.EOF) {
		return f, fault.New(fault.Unprocessable, "the sheet %q has no rows", fault.Clip(f.Sheet, 80)).WithCode("file_empty")
	} else if err != nil {
		return f, err
	} else if w := rows.wrong; w != nil {
		return f, fault.New(fault.Unprocessable, "row %d of the sheet %q cannot be read: %s", rows.number, fault.Clip(f.Sheet, 80), w.Message).WithCode(w.Code)
	}
	names := make([]string, rows.cells[len(rows.cells)-1].column+1)
	for _, c := range rows.cells {
		names[c.column] = strings.TrimSpace(string(c.text))
	}
	if f.Dialect.Header == nil {
		f.Dialect.Header = new(named(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "" }), s.columns()))
	}
	f.First = Position{}
	if *f.Dialect.Header {
		f.First = Position{Offset: rows.number, Line: rows.number}
	} else {
		for i := range names {
			names[i] = strconv.Itoa(i + 1)
		}
	}
	f.Columns = names
	err = f.lacks(s)
	for _, c := range rows.cells {
		if err != nil && c.wrong != nil { // the column is perhaps there
			return f, fault.New(fault.Unprocessable, "row %d of the sheet %q, which names the columns, cannot be read: %s", rows.number, fault.Clip(f.Sheet, 80), c.wrong.Message).WithCode("columns_missing")
		}
	}
	return f, err
}

// choose returns the sheet that is read: the one that is named, or else the only one
// that can be seen and has rows.
func (b *book) choose(ctx context.Context, name string) (string, error) {
	if name != "" {
		if !slices.ContainsFunc(b.sheets, func(s bookSheet) bool { return s.name == name }) {
			return "", b.which("the workbook has no sheet %q", name)
		}
		return name, nil
	}
	for _, s := range b.sheets {
		if s.hidden || s.name == manifestSheet {
			continue
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
		rows, err := b.rows(s.name)
		if err != nil {
			return "", err
		}
		err = rows.next()
		_ = rows.close()
		switch {
		case errors.Is(err, io.EOF):
			continue
		case err != nil:
			return "", err
		case name != "":
			return "", b.which("the workbook has rows in several sheets, %q and others: say in sheet which to read", name)
		}
		name = s.name
	}
	if name == "" {
		return "", fault.New(fault.Unprocessable, "no sheet that can be seen has rows").WithCode("file_empty")
	}
	return name, nil
}

// which says which sheets there are.
func (b *book) which(format, name string) error {
	f := fault.New(fault.Unprocessable, format, fault.Clip(name, 80)).WithCode("sheet_unknown")
	for _, s := range b.sheets[:min(len(b.sheets), 100)] {
		f = f.WithDetails(append(f.Details, fault.Detail{Code: "sheet", Message: fault.Clip(s.name, 80)})...)
	}
	return f
}

// rows opens a sheet by its name.
func (b *book) rows(name string) (*sheet, error) {
	for _, s := range b.sheets {
		if s.name == name {
			return b.sheet(s.part)
		}
	}
	return nil, fault.New(fault.Unprocessable, "the workbook has no sheet %q", fault.Clip(name, 80)).WithCode("sheet_unknown")
}

// sheetReader reads the rows of a sheet. A position's offset, and its line, is the number
// of the row before it.
type sheetReader struct {
	filler
	sheet  *sheet
	at     Position
	wanted []int // by column of the sheet, the place among the wanted; -1: it is none
	cells  [][]byte
}

func openBookRows(ctx context.Context, src Source, f File, s *Spec, at Position, o Options) (Reader, error) {
	r := &sheetReader{at: at, wanted: make([]int, len(f.Columns)), cells: make([][]byte, len(s.columns()))}
	r.filler = filler{spec: s, row: r, kept: table.String, layout: layout(s), pace: pace{yield: o.Yield}}
	names := s.columns()
	for i, name := range f.Columns {
		r.wanted[i] = slices.Index(names, name)
	}
	err := guarded(func() error {
		b, err := openBook(ctx, src, o)
		if err == nil {
			r.sheet, err = b.rows(f.Sheet)
		}
		return err
	})
	if err != nil {
		return nil, unended(err)
	}
	return r, nil
}

// Position implements Reader.
func (r *sheetReader) Position() Position { return r.at }

// Forward implements Reader.
func (r *sheetReader) Forward(to Position) error {
	r.at = to
	return nil
}

// Close implements Reader.
func (r *sheetReader) Close() error { return r.sheet.close() }

// Read implements Reader.
func (r *sheetReader) Read(c *Chunk, l Limit) error {
	c.reset(r.spec, r.kept)
	if r.at.Offset > sheetRows { // behind damage
		return io.EOF
	}
	end := false
	err := unended(guarded(func() (err error) { end, err = r.read(c, l); return err }))
	if wrong := rest(err, r.at.Row); wrong != nil {
		line := r.at.Line + 1
		r.add(c, line, false, wrong)
		r.at = Position{Offset: sheetRows + 1, Line: line, Row: r.at.Row + 1}
		return nil
	}
	if end && c.Rows == 0 && err == nil {
		return io.EOF
	}
	return err
}

func (r *sheetReader) read(c *Chunk, l Limit) (end bool, err error) {
	for begin := r.sheet.size(); c.Rows < l.Rows && (c.Rows == 0 || r.sheet.size()-begin < l.Bytes); {
		before := r.sheet.size()
		err := r.sheet.next()
		r.pace.took(r.sheet.size() - before)
		switch {
		case errors.Is(err, io.EOF):
			return true, r.sheet.rest()
		case err != nil:
			return false, err
		case r.sheet.number <= r.at.Offset:
			begin = r.sheet.size()
			continue // it is before the position
		}
		wrong := r.sheet.wrong
		known := wrong == nil
		if known {
			wrong = r.take()
		}
		r.add(c, r.sheet.number, known, wrong)
		r.at = Position{Offset: r.sheet.number, Line: r.sheet.number, Row: r.at.Row + 1}
	}
	return false, nil
}

// take takes the wanted cells of the row.
func (r *sheetReader) take() (wrong *RowError) {
	clear(r.cells)
	for _, c := range r.sheet.cells {
		if c.column >= len(r.wanted) || r.wanted[c.column] < 0 {
			continue
		}
		if c.wrong == nil { // _x0000_ is a NUL
			c.wrong = encoded(c.text)
		}
		if c.wrong != nil && wrong == nil {
			wrong = c.wrong
			wrong.Column = r.spec.columns()[r.wanted[c.column]]
		}
		if c.wrong == nil {
			r.cells[r.wanted[c.column]] = append([]byte{}, c.text...)
		}
	}
	return wrong
}

func (r *sheetReader) cell(column int) []byte { return r.cells[column] }

func (r *sheetReader) element(dst []byte, t Type, cell []byte) ([]byte, *RowError) {
	return appendText(dst, t, cell)
}

func (r *sheetReader) list(dst []byte, t Type, width int, cell []byte) ([]byte, *RowError) {
	return appendList(dst, t, width, cell)
}

func (r *sheetReader) text(cell []byte) ([]byte, *RowError) { return cell, nil }
