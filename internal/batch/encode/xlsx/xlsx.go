// Package xlsx writes tables as Excel workbooks (ECMA-376 Office Open XML) of
// any size in constant memory: sheets are written as their rows come, and
// nothing is kept but a buffer. It writes what an export needs, and no more:
// typed cells, a header that stays in sight with a filter, and a sheet that
// says what the workbook holds.
//
// Nothing is silently changed: a number that a spreadsheet would round is
// written as text, and a text that does not fit a cell fails the file.
package xlsx

import (
	"archive/zip"
	"io"
	"strconv"
	"time"

	"github.com/klauspost/compress/flate"

	"sluice/internal/batch/encode/cell"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Limits of the format (ECMA-376, and Excel's own specification).
const (
	MaxRows = 1_048_576 // of a sheet, header included
	MaxText = 32_767    // UTF-16 units of a cell
	// maxSheet keeps a sheet's XML below 4 GiB: Go's archive/zip writes larger
	// entries with differing versions in their two headers, which Excel refuses.
	maxSheet = 4<<30 - 1<<20
)

// Options say how a workbook is written.
type Options struct {
	Zone *time.Location // of times, which spreadsheets know no zones for; UTC where nil
	// Manifest is the first lines of the sheet _manifest, a name and a value each.
	Manifest [][2]string
	// SheetRows is when the next sheet begins: rows, header not counted. 0 is as
	// many as a sheet can have.
	SheetRows int

	sheetBytes int64 // of a sheet's XML; 0 is just under 4 GiB
}

// Check returns what is wrong with the options, as a fault of kind Invalid.
func (o Options) Check() error {
	if o.SheetRows < 0 || o.SheetRows > MaxRows-1 {
		return fault.New(fault.Invalid, "a sheet has between 1 and %d rows, header not counted, not %d", MaxRows-1, o.SheetRows).WithCode("option_invalid")
	}
	return nil
}

const bufferSize = 64 << 10

// Writer writes a table. It is not for concurrent use.
type Writer struct {
	o      Options
	schema table.Schema
	clock  *cell.Clock
	zip    *zip.Writer

	sheet  io.Writer // the open one; nil where none is
	buf    []byte    // of it, not written yet
	bytes  int64     // of it, written
	number int       // of the row
	sheets []int     // rows of each, header not counted; the last is the open one
	err    error     // the first failure, which stays
}

// NewWriter returns a writer. The schema and the options must be right (see
// their Check).
func NewWriter(out io.Writer, schema table.Schema, o Options) *Writer {
	if o.SheetRows == 0 {
		o.SheetRows = MaxRows - 1
	}
	if o.sheetBytes == 0 {
		o.sheetBytes = maxSheet
	}
	w := &Writer{o: o, schema: schema, clock: cell.NewClock(o.Zone), zip: zip.NewWriter(out), buf: make([]byte, 0, bufferSize+4096)}
	w.zip.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
	w.part("[Content_Types].xml", contentTypes)
	w.part("_rels/.rels", rels)
	w.part("xl/styles.xml", styles)
	w.open()
	return w
}

// Write implements table.Writer.
func (w *Writer) Write(c *table.Chunk) error {
	if w.err == nil {
		w.err = c.Check()
	}
	for row := 0; row < c.Rows() && w.err == nil; row++ {
		last := len(w.sheets) - 1
		if w.sheets[last] >= w.o.SheetRows || w.bytes+int64(len(w.buf)) >= w.o.sheetBytes {
			w.close()
			w.open()
			last++
		}
		w.sheets[last]++
		w.startRow()
		for i := range w.schema {
			w.cell(c.Column(i), i, row)
		}
		w.buf = append(w.buf, "</row>"...)
		if len(w.buf) >= bufferSize {
			w.flush()
		}
	}
	return w.err
}

// Close implements table.Writer.
func (w *Writer) Close() error {
	if w.sheet == nil {
		return w.err
	}
	w.close()
	w.manifest()
	w.part("xl/workbook.xml", w.workbook())
	w.part("xl/_rels/workbook.xml.rels", w.workbookRels())
	if w.err == nil {
		w.err = w.zip.Close()
	}
	return w.err
}

// part writes a whole file of the package.
func (w *Writer) part(name string, content string) {
	f := w.create(name)
	if w.err == nil {
		_, w.err = io.WriteString(f, content)
	}
}

func (w *Writer) create(name string) (f io.Writer) {
	if w.err == nil {
		f, w.err = w.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
	}
	return f
}

// open starts the next sheet and writes its header.
func (w *Writer) open() {
	w.sheets = append(w.sheets, 0)
	w.sheet = w.create("xl/worksheets/sheet" + strconv.Itoa(len(w.sheets)) + ".xml")
	w.bytes, w.number = 0, 0
	w.buf = append(w.buf, sheetStart...)
	w.startRow()
	for i, f := range w.schema {
		w.text(i, []byte(f.Name), styleHeader)
	}
	w.buf = append(w.buf, "</row>"...)
}

// close ends the open sheet.
func (w *Writer) close() {
	w.buf = append(append(w.buf, `</sheetData><autoFilter ref="`...), areaOf(len(w.schema), w.sheets[len(w.sheets)-1], "")...)
	w.buf = append(w.buf, `"/></worksheet>`...)
	w.flush()
	w.sheet = nil
}

func (w *Writer) flush() {
	if w.err == nil {
		_, w.err = w.sheet.Write(w.buf)
	}
	w.bytes += int64(len(w.buf))
	w.buf = w.buf[:0]
	if cap(w.buf) > 4*bufferSize { // wide rows went through
		w.buf = make([]byte, 0, bufferSize+4096)
	}
}

func (w *Writer) startRow() {
	w.number++
	w.buf = strconv.AppendInt(append(w.buf, `<row r="`...), int64(w.number), 10)
	w.buf = append(w.buf, `">`...)
}
