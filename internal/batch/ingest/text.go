package ingest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Format is how rows are written.
type Format string

// The formats.
const (
	CSV     Format = "csv"
	JSONL   Format = "jsonl"
	Parquet Format = "parquet"
	Arrow   Format = "arrow" // IPC, as a file or a stream
	XLSX    Format = "xlsx"
)

// Text says whether a file is text.
func (f Format) Text() bool { return f == CSV || f == JSONL }

// File says all that it takes to read a file; Inspect finds it out.
type File struct {
	Format  Format   `json:"format"`
	Coding  Coding   `json:"coding"`
	Dialect Dialect  `json:"dialect,omitzero"`  // of CSV
	Sheet   string   `json:"sheet,omitempty"`   // of a workbook
	Columns []string `json:"columns,omitempty"` // but of JSON Lines, in the file's order
	// First is where the rows begin: behind the header.
	First Position `json:"first"`
	// Rows is how many there are, where the file says so; 0: unknown.
	Rows int64 `json:"rows,omitempty"`
}

// Options bound what a reader takes; the zero value has defaults.
type Options struct {
	MaxRow    int // bytes; default MaxRow
	Inflation Inflation
	Yield     func() // is called again and again while a chunk is read, some 100 µs apart; nil for nobody

	bookPart, bookText int64 // bytes of a workbook's parts; 0 is maxBookPart and maxSharedText
}

func (o Options) withDefaults() Options {
	if o.MaxRow <= 0 {
		o.MaxRow = MaxRow
	}
	if o.Yield == nil {
		o.Yield = func() {}
	}
	o.bookPart, o.bookText = cmp.Or(o.bookPart, maxBookPart), cmp.Or(o.bookText, maxSharedText)
	return o
}

// Inspect looks at the beginning of a file, and says how it is read: in the format, which
// it finds out where that is empty, and with what is known of its dialect and encoding. Errors: columns that the
// spec wants and the file does not have, and what keeps it from being read.
func Inspect(ctx context.Context, src Source, f File, s *Spec, o Options) (File, error) {
	if err := f.Dialect.Check(); err != nil {
		return f, err
	}
	if e := f.Coding.Encoding; e != "" && e != "utf-8" && encodings[e] == nil {
		return f, fault.New(fault.Unprocessable, "the encoding %q is not known: expected utf-8, utf-16le, utf-16be, windows-1252 or iso-8859-1", fault.Clip(e, 40)).WithCode("encoding_unknown")
	}
	o = o.withDefaults()
	if err := f.recognize(ctx, src, o); err != nil {
		return f, err
	}
	switch f.Format {
	case Parquet:
		return inspectParquet(ctx, src, f, s)
	case Arrow:
		return inspectArrow(ctx, src, f, s, o)
	case XLSX:
		return inspectBook(ctx, src, f, s, o)
	}
	coding, head, err := sniff(ctx, src, f.Coding.Encoding, o.Inflation)
	if err != nil {
		return f, err
	}
	f.Coding = coding
	if len(head) == 0 {
		return f, fault.New(fault.Unprocessable, "the file is empty").WithCode("file_empty")
	}
	if found := formatOf(head); coding.Compression != "" && found != "" {
		return f, found.packed()
	}
	if f.Format == JSONL && jsonArray(head) {
		return f, fault.New(fault.Unprocessable, "the file is a JSON array, and JSON Lines are wanted: each object on a line of its own, without brackets around them all and commas between (jq -c '.[]' makes them)").WithCode("format_mismatch")
	}
	if f.Format == JSONL {
		return f, nil
	}
	f.Dialect = f.Dialect.complete(head, s.columns())
	if err := f.header(ctx, src, o); err != nil {
		return f, err
	}
	return f, f.lacks(s)
}

// header reads the names of the columns.
func (f *File) header(ctx context.Context, src Source, o Options) error {
	body, err := f.Coding.open(ctx, src, 0, o.Inflation)
	if err != nil {
		return err
	}
	defer body.Close()
	sc := f.scanner(body, Position{}, o)
	record, err := sc.record()
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Unprocessable, "the file has no rows").WithCode("file_empty")
	}
	if wrong, ok := errors.AsType[*RowError](err); ok {
		return fault.New(fault.Unprocessable, "line %d: %s", sc.line, wrong.Message).WithCode(wrong.Code)
	}
	if err != nil {
		return err
	}
	cells, wrong := sc.split(record, nil)
	if wrong == nil {
		wrong = encoded(record)
	}
	if wrong != nil {
		return fault.New(fault.Unprocessable, "line %d: %s", sc.line, wrong.Message).WithCode(wrong.Code)
	}
	if len(cells) > table.MaxColumns {
		return fault.New(fault.Unprocessable, "the file has %d columns, more than %d", len(cells), table.MaxColumns).WithCode("file_too_wide")
	}
	f.Columns = make([]string, len(cells))
	for i, c := range cells {
		f.Columns[i] = strconv.Itoa(i + 1)
		if *f.Dialect.Header {
			f.Columns[i] = strings.TrimSpace(string(c))
		}
	}
	if *f.Dialect.Header {
		f.First = Position{Offset: sc.at.Offset, Line: sc.at.Line}
	}
	return nil
}

// lacks returns which columns are wanted and not there, or there twice.
func (f *File) lacks(s *Spec) error {
	var details []fault.Detail
	add := func(code, format string, args ...any) {
		details = append(details, fault.Detail{Line: 1, Code: code, Message: fault.New(fault.Invalid, format, args...).Message})
	}
	for _, name := range s.columns() {
		i := slices.Index(f.Columns, name)
		switch {
		case i < 0:
			add("column_missing", "there is no column %q", fault.Clip(name, 80))
		case slices.Contains(f.Columns[i+1:], name):
			add("column_twice", "there are two columns %q", fault.Clip(name, 80))
		}
	}
	if len(details) == 0 {
		return nil
	}
	return fault.New(fault.Unprocessable, "the file does not have the columns that are wanted: it has %s", fault.Clip(strings.Join(f.Columns, ", "), 400)).
		WithCode("columns_missing").WithDetails(details[:min(len(details), 100)]...)
}

func (f *File) scanner(r io.Reader, at Position, o Options) *scanner {
	s := newScanner(r, at, o.MaxRow)
	if f.Format == CSV {
		s.delimiter, s.quote = f.Dialect.Delimiter[0], f.Dialect.quote()
		if f.Dialect.Old {
			s.eol = '\r'
		}
	}
	return s
}

// Open reads the file's rows from a position on, which a reader of it has given, or
// f.First.
func Open(ctx context.Context, src Source, f File, s *Spec, at Position, o Options) (Reader, error) {
	o = o.withDefaults()
	switch f.Format {
	case Parquet:
		return openParquet(ctx, src, s, at, o)
	case Arrow:
		return openArrow(ctx, src, s, at, o)
	case XLSX:
		return openBookRows(ctx, src, f, s, at, o)
	}
	body, err := f.Coding.open(ctx, src, at.Offset, o.Inflation)
	if err != nil {
		return nil, err
	}
	r := &textReader{foreign: f.Coding.Encoding != "" && f.Coding.Encoding != "utf-8", body: body, scan: f.scanner(body, at, o), filler: filler{spec: s, kept: table.String, layout: layout(s), pace: pace{yield: o.Yield}}}
	if !f.Coding.wrapped() {
		r.again = func(offset int64) (io.ReadCloser, error) { return f.Coding.open(ctx, src, offset, o.Inflation) }
	}
	if f.Format == JSONL {
		r.kept, r.rows = table.JSON, newObjects(s.columns())
	} else {
		records := newRecords(&f, r.scan, s.columns(), s)
		r.rows, r.stripe = records, records.stripe
	}
	r.row = r.rows
	return r, nil
}
