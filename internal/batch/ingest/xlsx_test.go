package ingest

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/xuri/excelize/v2"
	"pgregory.net/rapid"

	"sluice/internal/batch/encode/xlsx"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// bookOf is a workbook of excelize.
func bookOf(t testing.TB, fill func(*excelize.File)) []byte {
	t.Helper()
	f := excelize.NewFile()
	defer f.Close()
	fill(f)
	b, err := f.WriteToBuffer()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// set sets cells of a sheet, in pairs of places and values.
func set(t testing.TB, f *excelize.File, sheet string, cells ...any) {
	t.Helper()
	for i := 0; i < len(cells); i += 2 {
		if err := f.SetCellValue(sheet, cells[i].(string), cells[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

// Workbooks of excelize, and of our own writer, are read as they were written, wherever
// a reader begins.
func TestBookLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[a-zé<>&"' \n_x0-9A-F]{0,12}|_x000D_|a_x0041_b`)
		type row struct {
			a    float32
			b    int
			note string
		}
		rows := make([]row, rapid.IntRange(1, 20).Draw(rt, "n"))
		for i := range rows {
			rows[i] = row{rapid.Float32().Draw(rt, "a"), rapid.IntRange(-1<<24, 1<<24).Draw(rt, "b"), text.Draw(rt, "note")}
		}
		var data []byte
		if rapid.Bool().Draw(rt, "ours") {
			var out bytes.Buffer
			schema := table.Schema{{Name: "id", Type: table.String}, {Name: "other", Type: table.Bool}, {Name: "a", Type: table.Float32}, {Name: "b", Type: table.Int}, {Name: "note", Type: table.String}}
			w, c := xlsx.NewWriter(&out, schema, xlsx.Options{}), table.NewChunk(schema)
			for i, r := range rows {
				c.Column(0).AppendString("r" + strconv.Itoa(i))
				c.Column(1).AppendNull()
				c.Column(2).AppendFloat(float64(r.a))
				c.Column(3).AppendInt(int64(r.b))
				c.Column(4).AppendString(r.note)
			}
			if w.Write(c) != nil || w.Close() != nil {
				rt.Fatal("it cannot be written")
			}
			data = out.Bytes()
		} else {
			gap := rapid.IntRange(0, 3).Draw(rt, "gap")
			data = bookOf(t, func(f *excelize.File) {
				set(t, f, "Sheet1", "B2", "id", "D2", "a", "E2", "b", "F2", "note")
				for i, r := range rows {
					n := strconv.Itoa(3 + i*(1+gap))
					set(t, f, "Sheet1", "B"+n, "r"+strconv.Itoa(i), "D"+n, r.a, "E"+n, r.b, "F"+n, strings.ReplaceAll(r.note, "_x", "-x"))
				}
			})
			for i := range rows {
				rows[i].note = strings.ReplaceAll(rows[i].note, "_x", "-x")
			}
		}
		f, err := Inspect(t.Context(), file(data), File{}, two, Options{})
		if err != nil || f.Format != XLSX {
			rt.Fatal(f.Format, err)
		}
		got := readAll(t, rt, data, f, two)
		if len(got) != len(rows) {
			rt.Fatalf("%d rows of %d", len(got), len(rows))
		}
		for i, r := range rows {
			if g := got[i]; g.Code != "" || g.ID != "r"+strconv.Itoa(i) || g.Kept[0] != r.note || string(g.Data[0]) != pair(r.a, float32(r.b)) {
				rt.Fatalf("row %d: %+v, want %+v", i, g, r)
			}
		}
	})
}

// What is odd about a cell is its row's own error, with the row's number in the sheet.
func TestOddCells(t *testing.T) {
	at := time.Date(2026, 11, 26, 18, 30, 0, 0, time.UTC)
	data := bookOf(t, func(f *excelize.File) {
		set(t, f, "Sheet1", "A1", "id", "B1", "a", "C1", "b", "D1", "note",
			"A2", "r2", "B2", 1.5, "C2", "2", "D2", at, // a number as text, and an instant
			"A3", "r3", "B3", at, "C3", 2, "D3", true, // no number
			"A5", "r5", "B5", 1, "C5", 2, "D5", 0.25, // behind an empty row
			"A6", "r6", "B6", 1, "C6", 2,
			"A7", "r7", "C7", 2,
			"A9", "r9", "B9", 3, "C9", 4)
		for cell, formula := range map[string]string{"B8": "1+1", "D6": `"a"&"b"`} {
			if err := f.SetCellFormula("Sheet1", cell, formula); err != nil {
				t.Fatal(err)
			}
		}
		set(t, f, "Sheet1", "A8", "r8", "C8", 2)
		date, err := f.NewStyle(&excelize.Style{NumFmt: 14})
		if err != nil || f.SetCellStyle("Sheet1", "D9", "D9", date) != nil {
			t.Fatal(err)
		}
		set(t, f, "Sheet1", "D9", 46352)
		if err := f.MergeCell("Sheet1", "B9", "B10"); err != nil { // of which the first has the value
			t.Fatal(err)
		}
		set(t, f, "Sheet1", "A10", "r10", "C10", 4)
	})
	f := inspect(t, data, File{}, two)
	got := readAllOnce(t, data, f)
	want := []struct {
		id, code, column, note string
		line                   int64
	}{
		{"r2", "", "", "2026-11-26T18:30:00", 2}, {"r3", CodeType, "a", "true", 3}, {"r5", "", "", "0.25", 5}, {"r6", CodeMissing, "note", "", 6}, {"r7", CodeMissing, "a", "", 7},
		{"r8", CodeMissing, "a", "", 8}, {"r9", "", "", "2026-11-26", 9}, {"r10", CodeMissing, "a", "", 10},
	}
	if len(got) != len(want) {
		t.Fatalf("%d rows: %+v", len(got), got)
	}
	for i, w := range want {
		if g := got[i]; g.ID != w.id || g.Code != w.code || g.Wrong != w.column || g.Kept[0] != w.note || g.Line != w.line {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
}

func readAllOnce(t *testing.T, data []byte, f File) (all []seen) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) { all = readAll(t, rt, data, f, two) })
	return all
}

// Which sheet is read is never guessed where several can be meant.
func TestSheets(t *testing.T) {
	sheets := func(fill func(*excelize.File)) []byte {
		return bookOf(t, func(f *excelize.File) {
			for _, name := range []string{"Rows", "Hidden", "Empty"} {
				if _, err := f.NewSheet(name); err != nil {
					t.Fatal(err)
				}
			}
			set(t, f, "Rows", "A1", "id", "B1", "a", "C1", "b", "D1", "note", "A2", "r", "B2", 1, "C2", 2)
			set(t, f, "Hidden", "A1", "id", "B1", "a", "C1", "b", "D1", "note", "A2", "h", "B2", 3, "C2", 4)
			if err := f.SetSheetVisible("Hidden", false); err != nil {
				t.Fatal(err)
			}
			fill(f)
		})
	}
	one := sheets(func(*excelize.File) {})
	if f := inspect(t, one, File{}, two); f.Sheet != "Rows" {
		t.Errorf("%+v", f)
	}
	f := inspect(t, one, File{Sheet: "Hidden"}, two)
	if got := readAllOnce(t, one, f); len(got) != 1 || got[0].ID != "h" {
		t.Errorf("%+v", got)
	}
	several := sheets(func(f *excelize.File) { set(t, f, "Sheet1", "A1", "notes of mine") })
	for name, tt := range map[string]struct {
		data  []byte
		sheet string
		code  string
	}{
		"several": {several, "", "sheet_unknown"}, "unknown": {one, "rows", "sheet_unknown"}, "empty": {one, "Empty", "file_empty"},
		"all empty": {bookOf(t, func(*excelize.File) {}), "", "file_empty"}, "no columns": {several, "Sheet1", "columns_missing"},
	} {
		if _, err := Inspect(t.Context(), file(tt.data), File{Sheet: tt.sheet}, two, Options{}); fault.CodeOf(err) != tt.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f := inspect(t, several, File{Sheet: "Rows"}, two); f.Sheet != "Rows" {
		t.Errorf("%+v", f)
	}
}

// bookWith is a small workbook one of whose parts is another, or is not there where that is nil.
func bookWith(t testing.TB, part string, content io.Reader) []byte {
	t.Helper()
	good := bookOf(t, func(f *excelize.File) {
		set(t, f, "Sheet1", "A1", "id", "B1", "a", "C1", "b", "D1", "note", "A2", "r", "B2", 1, "C2", 2)
	})
	in, err := zip.NewReader(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
	for _, f := range in.File {
		if f.Name == part && content == nil {
			continue
		}
		to, err := w.Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		from, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == part {
			_, err = io.Copy(to, content)
		} else {
			_, err = io.Copy(to, from)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const (
	sheetPart = "xl/worksheets/sheet1.xml"
	header    = `<worksheet><sheetData><row><c t="inlineStr"><is><t>id</t></is></c><c t="inlineStr"><is><t>a</t></is></c><c t="inlineStr"><is><t>b</t></is></c><c t="inlineStr"><is><t>note</t></is></c></row>`
	oneRow    = `<row><c t="str"><v>r</v></c><c><v>1</v></c><c><v>2</v></c></row>`
)

// again repeats a text for so many bytes.
type again struct {
	text string
	at   int
}

func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.text[a.at:])
	a.at = (a.at + n) % len(a.text)
	return n, nil
}

func repeated(text string, size int64) io.Reader { return io.LimitReader(&again{text: text}, size) }

// Bombs are refused: nothing of a workbook is held that is larger than what is said.
func TestHostileBooks(t *testing.T) {
	for name, tt := range map[string]struct {
		part    string
		content io.Reader
		code    string
	}{
		"no workbook":     {"xl/workbook.xml", strings.NewReader("<nothing/>"), "file_empty"},
		"no XML":          {"xl/workbook.xml", strings.NewReader("\x00\x01<"), codeDamaged},
		"a large part":    {"xl/workbook.xml", repeated("<x/>", 1<<20), "file_inflates"},
		"texts":           {"xl/sharedStrings.xml", io.MultiReader(strings.NewReader("<sst>"), repeated("<si><t>"+strings.Repeat("x", 1<<16)+"</t></si>", 2<<20)), "workbook_texts_too_large"},
		"one text":        {"xl/sharedStrings.xml", io.MultiReader(strings.NewReader("<sst><si><t>"), repeated("x", 1<<20)), "file_inflates"},
		"a cell":          {sheetPart, io.MultiReader(strings.NewReader(header+`<row><c t="str"><v>`), repeated("x", 1<<20)), codeDamaged}, // which does not end
		"many cells":      {sheetPart, io.MultiReader(strings.NewReader(header+`<row>`), repeated("<c/>", 80_000)), codeDamaged},
		"a far cell":      {sheetPart, strings.NewReader(`<sheetData><row><c r="XFE1"><v>1</v></c></row></sheetData>`), CodeShape},
		"a farther cell":  {sheetPart, strings.NewReader(`<sheetData><row><c r="ZZZZZZZ4294967296"><v>1</v></c></row></sheetData>`), CodeShape},
		"a far row":       {sheetPart, strings.NewReader(header + `<row r="2147483648">` + oneRow[5:] + `</sheetData>`), codeDamaged},
		"a farther row":   {sheetPart, strings.NewReader(header + `<row r="99999999999999999999">` + oneRow[5:] + `</sheetData>`), codeDamaged},
		"a row before":    {sheetPart, strings.NewReader(header + `<row r="7">` + oneRow[5:] + `<row r="7">` + oneRow[5:] + `</sheetData>`), CodeRest},
		"cut off":         {sheetPart, strings.NewReader(header + oneRow), CodeRest},
		"entities":        {sheetPart, strings.NewReader(`<!DOCTYPE x [<!ENTITY a "aaaa">]>` + header + `<row><c t="str"><v>&a;</v></c></row></sheetData>`), codeDamaged},
		"nothing but air": {sheetPart, io.MultiReader(strings.NewReader(`<worksheet><sheetData>`), repeated(" ", 1<<20)), "file_inflates"},
	} {
		t.Run(name, func(t *testing.T) {
			data := bookWith(t, tt.part, tt.content)
			o := Options{MaxRow: 200_000, bookPart: 300_000, bookText: 1_000_000}
			f, err := Inspect(t.Context(), file(data), File{Format: XLSX}, two, o)
			rest := ""
			if err == nil {
				var r Reader
				if r, err = Open(t.Context(), file(data), f, two, f.First, o); err == nil {
					for c := new(Chunk); err == nil; {
						if err = r.Read(c, Limit{Rows: 10, Bytes: 1 << 20}); err == nil && len(c.Errors) > 0 {
							rest = c.Errors[len(c.Errors)-1].Code
						}
					}
					r.Close()
				}
			}
			if errors.Is(err, io.EOF) && rest == tt.code {
				return // the row before is there
			}
			if fault.CodeOf(err) != tt.code || !fault.Is(err, fault.Unprocessable) {
				t.Errorf("%v, code %s", err, fault.CodeOf(err))
			}
		})
	}
}

// A row that claims cells without end ends the sheet; those before it are there.
func TestEndlessRows(t *testing.T) {
	o := Options{MaxRow: 2000}
	for name, tt := range map[string]struct {
		begin, each string
		rows        int // before it; 0: none is read
	}{
		"a header":  {`<sheetData><row>`, `<c/>`, 0},
		"the first": {header + `<row>`, `<c/>`, 0},
		"behind":    {header + oneRow + oneRow + `<row>`, `<c/>`, 2},
		"one cell":  {header + oneRow + `<row><c t="str"><v>`, `x`, 1},
	} {
		data := bookWith(t, sheetPart, io.MultiReader(strings.NewReader(tt.begin), repeated(tt.each, (hopeless+2)*2000), strings.NewReader("</row>"+oneRow+"</sheetData>")))
		f, err := Inspect(t.Context(), file(data), File{Format: XLSX}, two, o)
		good, code, message := 0, fault.CodeOf(err), ""
		if err == nil {
			r, err := Open(t.Context(), file(data), f, two, f.First, o)
			if err != nil {
				t.Fatal(err)
			}
			for c := new(Chunk); err == nil; {
				if err = r.Read(c, Limit{Rows: 10, Bytes: 1 << 20}); err == nil {
					for _, e := range c.Errors {
						code, message = e.Code, e.Message
					}
					good += len(c.Good)
				} else if !errors.Is(err, io.EOF) {
					code = fault.CodeOf(err)
				}
			}
			r.Close()
		}
		if want := map[bool]string{true: CodeRest, false: codeDamaged}[tt.rows > 0]; good != tt.rows || code != want || tt.rows > 0 && !strings.Contains(message, "leave that row out") {
			t.Errorf("%s: %d rows, %s: %s", name, good, code, message)
		}
	}
}

// locked says of all files of an archive that they are encrypted.
func locked(archive []byte) []byte {
	data := bytes.Clone(archive)
	for at := 0; ; at++ {
		next := bytes.Index(data[at:], []byte("PK\x01\x02"))
		if next < 0 {
			return data
		}
		at += next
		data[at+8] |= 1
	}
}

func TestBadArchives(t *testing.T) {
	good := bookOf(t, func(f *excelize.File) { set(t, f, "Sheet1", "A1", "id") })
	for name, tt := range map[string]struct {
		data []byte
		code string
	}{
		"cut": {good[:len(good)/2], codeDamaged}, "old": {[]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("x", 600)), "format_mismatch"},
		"text":     {[]byte("PK\x03\x04"), codeDamaged},
		"password": {locked(good), codeEncrypted},
	} {
		if _, err := Inspect(t.Context(), file(tt.data), File{Format: XLSX}, two, Options{}); fault.CodeOf(err) != tt.code {
			t.Errorf("%s: %v, %s", name, err, fault.CodeOf(err))
		}
	}
	for i := 0; i < len(good); i += 7 {
		data := bytes.Clone(good)
		data[i] ^= 0xff
		readBroken(t, data, XLSX, two)
	}
}

// Dates are those that excelize, and Excel, show.
func TestDates(t *testing.T) {
	for code, want := range map[string]dateStyle{
		"yyyy-mm-dd": dateOnly, `yyyy\-mm\-dd\ hh:mm:ss.000`: dateTime, "General": noDate, "0.00E+00": noDate, `#,##0.00 "days"`: noDate, "[Red]0.0": noDate, "[h]:mm:ss": noDate,
		"mmm d": dateOnly, "h:mm AM/PM": dateTime, "0;yyyy": noDate, `"d`: noDate, `\d0`: noDate, "[$-407]d. mmmm yyyy": dateOnly,
	} {
		if got := styleOf(code); got != want {
			t.Errorf("%s: %d", code, got)
		}
	}
	for value, want := range map[string]string{
		"0": "00:00:00", "0.5": "12:00:00", "1": "1900-01-01T00:00:00", "59": "1900-02-28T00:00:00", "60": "", "61": "1900-03-01T00:00:00", "25569": "1970-01-01T00:00:00",
		"46352.770833333336": "2026-11-26T18:30:00", "2958465.5": "", "-1": "", "x": "", "NaN": "", "1e400": "",
	} {
		got, ok := dateTime.text([]byte(value), 0)
		if string(got) != want || ok != (want != "") {
			t.Errorf("%s: %s", value, got)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		x := rapid.Float64Range(62, 2958464).Draw(rt, "serial")
		x = math.Round(x*86400) / 86400
		want, err := excelize.ExcelDateToTime(x, false)
		got, ok := dateTime.text([]byte(strconv.FormatFloat(x, 'f', -1, 64)), 0)
		if err != nil || !ok || string(got) != want.Round(time.Second).Format("2006-01-02T15:04:05") {
			rt.Fatalf("%v: %s, want %v, %v", x, got, want, err)
		}
	})
}

// Whatever is in a sheet: it is an error or rows, and no panic that ends the process.
func FuzzSheet(f *testing.F) {
	f.Add(header + oneRow + "</sheetData></worksheet>")
	f.Add(header + `<row r="5"><c r="A5" t="b"><v>1</v></c><c r="C5" s="1"><f>1</f><v>2</v></c></row></sheetData>`)
	f.Add(header + `<row><c t="inlineStr"><is><r><t>a</t></r><rPh><t>b</t></rPh><r><t>_x0041_</t></r></is></c></row></sheetData>`)
	f.Fuzz(func(t *testing.T, xml string) {
		readBroken(t, bookWith(t, sheetPart, strings.NewReader(xml)), XLSX, two)
	})
}

// FuzzBook has whole archives damaged.
func FuzzBook(f *testing.F) {
	f.Add(bookOf(f, func(b *excelize.File) { set(f, b, "Sheet1", "A1", "id", "B1", "a", "C1", "b", "D1", "note", "A2", "x") }))
	f.Fuzz(func(t *testing.T, data []byte) { readBroken(t, data, XLSX, two) })
}

// BenchmarkBook is a row of ten cells, beside excelize's row iterator.
func BenchmarkBook(b *testing.B) {
	schema := make(table.Schema, 10)
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 10}}}
	for i := range schema {
		schema[i] = table.Field{Name: fmt.Sprintf("c%d", i), Type: table.Float32}
		s.Inputs[0].Columns = append(s.Inputs[0].Columns, schema[i].Name)
	}
	var out bytes.Buffer
	w, c := xlsx.NewWriter(&out, schema, xlsx.Options{}), table.NewChunk(schema)
	const rows = 20_000
	for r := range rows {
		for i := range schema {
			c.Column(i).AppendFloat(float64(r) / float64(i+1))
		}
	}
	if w.Write(c) != nil || w.Close() != nil {
		b.Fatal("it cannot be written")
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f := inspect(b, out.Bytes(), File{}, s)
			r, err := Open(b.Context(), file(out.Bytes()), f, s, f.First, Options{})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for c := new(Chunk); r.Read(c, Limit{Rows: 4096, Bytes: 1 << 30}) == nil; n += c.Rows {
			}
			r.Close()
			if n != rows {
				b.Fatal(n)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	})
	b.Run("excelize", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f, err := excelize.OpenReader(bytes.NewReader(out.Bytes()))
			if err != nil {
				b.Fatal(err)
			}
			it, err := f.Rows("data_1")
			if err != nil {
				b.Fatal(err)
			}
			for it.Next() {
				if _, err := it.Columns(); err != nil {
					b.Fatal(err)
				}
			}
			_ = it.Close()
			_ = f.Close()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	})
}
