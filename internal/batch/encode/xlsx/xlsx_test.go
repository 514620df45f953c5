package xlsx

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/xuri/excelize/v2"
	"pgregory.net/rapid"

	"sluice/internal/batch/encode/cell"
	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/fault"
)

// excelize reads back what was written, sheet after sheet.
func TestReadsBack(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		schema := tabletest.Schema(t)
		o := Options{
			Zone:       rapid.SampledFrom([]*time.Location{nil, zone}).Draw(t, "zone"),
			Manifest:   [][2]string{{"dataset", "a & b"}},
			SheetRows:  rapid.IntRange(1, 20).Draw(t, "sheet rows"),
			sheetBytes: rapid.SampledFrom([]int64{0, 3000}).Draw(t, "sheet bytes"),
		}
		c := table.NewChunk(schema)
		var out bytes.Buffer
		w := NewWriter(&out, schema, o)
		var want [][]string
		for range 3 {
			tabletest.Fill(t, c, 10)
			for _, row := range tabletest.Rows(c) {
				want = append(want, expected(row, o.Zone))
			}
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, read(t, out.Bytes(), schema, o), sameTime); diff != "" {
			t.Fatal(diff)
		}
	})
}

// excelize tells numbers with 15 digits: ten decimals of a day are 8.6 µs.
var sameTime = cmp.Comparer(func(a, b string) bool {
	x, errX := time.Parse("2006-01-02 15:04:05.000000", a)
	y, errY := time.Parse("2006-01-02 15:04:05.000000", b)
	return a == b || errX == nil && errY == nil && x.Sub(y).Abs() < 10*time.Microsecond
})

// expected is a row as excelize says it raw: numbers as they are written.
func expected(row []any, zone *time.Location) []string {
	if zone == nil {
		zone = time.UTC
	}
	cells := make([]string, len(row))
	for i, v := range row {
		switch v := v.(type) {
		case string:
			cells[i] = v
		case json.RawMessage:
			cells[i] = string(v)
		case int64:
			cells[i] = strconv.FormatInt(v, 10)
		case float64:
			cells[i] = string(cell.AppendFloat(nil, v))
		case float32:
			cells[i] = string(cell.AppendFloat32(nil, v))
		case bool:
			cells[i] = strings.ToUpper(strconv.FormatBool(v))
		case time.Time:
			v = v.In(zone)
			if name, offset := v.Zone(); offset%60 != 0 { // local mean time
				v = v.In(time.FixedZone(name, offset-offset%60))
			}
			cells[i] = v.Format("2006-01-02T15:04:05.000000Z07:00")
			if v.Year() > 1900 {
				cells[i] = v.Format("2006-01-02 15:04:05.000000") // read by its serial
			}
		}
	}
	return cells
}

func read(t *rapid.T, workbook []byte, schema table.Schema, o Options) (rows [][]string) {
	t.Helper()
	f, err := excelize.OpenReader(bytes.NewReader(workbook), excelize.Options{RawCellValue: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sheets := f.GetSheetList()
	for i, name := range sheets[:len(sheets)-1] {
		if name != sheetName(i) {
			t.Fatalf("sheet %d is called %q", i, name)
		}
		got, err := f.GetRows(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(got)-1 > o.SheetRows {
			t.Fatalf("%s has %d rows, more than %d", name, len(got)-1, o.SheetRows)
		}
		for c, field := range schema {
			if got[0][c] != field.Name {
				t.Fatalf("header %q, want %q", got[0][c], field.Name)
			}
		}
		// A row of nulls at the end of a sheet is there, but excelize leaves it out.
		for n := len(got) - 1; n < lastRow(t, f, name); n++ {
			got = append(got, nil)
		}
		for _, row := range got[1:] {
			cells := make([]string, len(schema))
			copy(cells, row)
			for c, field := range schema {
				cells[c] = readable(t, cells[c], field.Type)
			}
			rows = append(rows, cells)
		}
	}
	manifest, err := f.GetRows(sheets[len(sheets)-1])
	if err != nil || !cmp.Equal(manifest[0], []string{"dataset", "a & b"}) || !cmp.Equal(manifest[1], []string{"rows", strconv.Itoa(len(rows))}) {
		t.Fatalf("manifest %q, %v", manifest, err)
	}
	return rows
}

// lastRow is the rows below the header, as the sheet's filter has them.
func lastRow(t *rapid.T, f *excelize.File, sheet string) int {
	t.Helper()
	for _, name := range f.GetDefinedName() {
		if name.Scope == sheet {
			n, err := strconv.Atoi(name.RefersTo[strings.LastIndex(name.RefersTo, "$")+1:])
			if err != nil {
				t.Fatal(err)
			}
			return n - 1
		}
	}
	t.Fatal("no filter")
	return 0
}

// readable turns what excelize leaves raw into what it means.
func readable(t *rapid.T, text string, typ table.Type) string {
	switch {
	case typ == table.Bool && text != "":
		return map[string]string{"1": "TRUE", "0": "FALSE"}[text]
	case typ == table.Time && text != "" && !strings.Contains(text, "T"):
		serial, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		days, day := math.Modf(serial)
		micros := int64(math.Round(day*dayMicros/10)) * 10 // a float64 of days has about 0.6 µs
		at := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(days))
		return at.Add(time.Duration(micros) * time.Microsecond).Format("2006-01-02 15:04:05.000000")
	}
	return text
}

// Every text is XML that says it, back through the escapes of ST_Xstring.
func TestTextsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := tabletest.Texts().Draw(t, "text")
		var got string
		d := xml.NewDecoder(bytes.NewReader(append(appendText([]byte("<t>"), []byte(text)), "</t>"...)))
		if err := d.Decode(&got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got = unescape(got); got != text {
			t.Fatalf("%q came back as %q", text, got)
		}
	})
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if escaped([]byte(s[i:])) {
			n, _ := strconv.ParseUint(s[i+2:i+6], 16, 32)
			b.WriteRune(rune(n))
			i += 6
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func TestColumnNames(t *testing.T) {
	for i := range table.MaxColumns {
		want, err := excelize.ColumnNumberToName(i + 1)
		if got := columnName(i); err != nil || got != want {
			t.Fatalf("column %d is %q, want %q", i, got, want)
		}
	}
}

func one(f table.Field, fill func(*table.Column)) error {
	c := table.NewChunk(table.Schema{f})
	fill(c.Column(0))
	w := NewWriter(io.Discard, c.Schema(), Options{})
	return errors.Join(w.Write(c), w.Close())
}

// A text is never cut: one that a cell cannot hold fails the file, and says so.
func TestLongTexts(t *testing.T) {
	for text, code := range map[string]string{
		strings.Repeat("x", MaxText): "", strings.Repeat("x", MaxText+1): "text_too_long",
		strings.Repeat("é", MaxText): "", strings.Repeat("😀", MaxText/2+1): "text_too_long",
	} {
		err := one(table.Field{Name: "s", Type: table.String}, func(c *table.Column) { c.AppendString(text) })
		if fault.CodeOf(err) != code {
			t.Errorf("%d bytes: %v, want %q", len(text), err, code)
		}
	}
	if err := one(table.Field{Name: "t", Type: table.Time}, func(c *table.Column) { c.AppendInt(math.MaxInt64) }); fault.CodeOf(err) != "time_out_of_range" {
		t.Error(err)
	}
}

func TestOptionsCheck(t *testing.T) {
	for _, n := range []int{-1, MaxRows} {
		if err := (Options{SheetRows: n}).Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d rows: %v", n, err)
		}
	}
	if err := (Options{SheetRows: MaxRows - 1}).Check(); err != nil {
		t.Error(err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestFailuresStay(t *testing.T) {
	c := table.NewChunk(tabletest.Plain)
	tabletest.FillPlain(c, 0, 5000)
	w := NewWriter(full{}, tabletest.Plain, Options{})
	for range 3 {
		w.Write(c)
	}
	for range 2 {
		if w.Close() == nil {
			t.Error("closes as if nothing were wrong")
		}
	}
}
