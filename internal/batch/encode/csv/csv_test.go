package csv

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/fault"
)

func berlin(t testing.TB) *time.Location {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// What the standard library reads back is what was written, in every dialect.
func TestReadsBack(t *testing.T) {
	zone := berlin(t)
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			BOM:         rapid.Bool().Draw(t, "bom"),
			Delimiter:   rapid.SampledFrom([]byte{0, ',', ';', '\t', '|'}).Draw(t, "delimiter"),
			Decimal:     rapid.SampledFrom([]byte{0, '.', ','}).Draw(t, "decimal"),
			Null:        rapid.SampledFrom([]string{"", "NULL", `\N`}).Draw(t, "null"),
			RawFormulas: rapid.Bool().Draw(t, "raw"),
			Zone:        rapid.SampledFrom([]*time.Location{nil, zone}).Draw(t, "zone"),
		}
		if o.Check() != nil {
			return
		}
		schema := tabletest.Schema(t)
		var out bytes.Buffer
		w := NewWriter(&out, schema, o)
		want := [][]string{header(schema, o)}
		for c := table.NewChunk(schema); len(want) < 8; {
			tabletest.Fill(t, c, 5)
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
			for _, row := range tabletest.Rows(c) {
				want = append(want, expected(row, o))
			}
			if c.Rows() == 0 {
				break
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if got := strings.HasPrefix(text, "\ufeff"); got != o.BOM {
			t.Fatalf("byte order mark: %v", got)
		}
		r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
		r.Comma = rune(o.defaults().Delimiter)
		got, err := r.ReadAll()
		if err != nil {
			t.Fatalf("%v in\n%q", err, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s\nin %q", diff, text)
		}
	})
}

func header(schema table.Schema, o Options) []string {
	var names []string
	for _, f := range schema {
		names = append(names, text(f.Name, o))
	}
	return names
}

// expected says a row as a reader must see it, by the standard library's means.
func expected(row []any, o Options) []string {
	o = o.defaults()
	var cells []string
	for _, v := range row {
		var s string
		switch v := v.(type) {
		case nil:
			s = o.Null
		case string:
			s = text(v, o)
		case json.RawMessage:
			s = string(v)
			s = strings.ReplaceAll(s, "\r\n", "\n") // encoding/csv reads it so
		case int64:
			s = strconv.FormatInt(v, 10)
		case float64:
			s = float(v, 64, o)
		case float32:
			s = float(float64(v), 32, o)
		case bool:
			s = strconv.FormatBool(v)
		case time.Time:
			zone := o.Zone
			if zone == nil {
				zone = time.UTC
			}
			v = v.In(zone)
			if name, offset := v.Zone(); offset%60 != 0 {
				v = v.In(time.FixedZone(name, offset-offset%60))
			}
			s = v.Format("2006-01-02T15:04:05.000000Z07:00")
		}
		cells = append(cells, s)
	}
	return cells
}

func float(v float64, bits int, o Options) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), "+", "", 1) + "inity"
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strings.ReplaceAll(strconv.FormatFloat(v, format, -1, bits), ".", string(o.Decimal))
}

// decimal is a text that is wholly a number.
var decimal = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func text(s string, o Options) string {
	if !o.RawFormulas && (strings.HasPrefix(s, "\x00") || strings.ContainsAny(firstRune(s), "=+-@\t\r\n＝＋－＠")) && !decimal.MatchString(s) {
		s = "'" + s
	}
	return strings.ReplaceAll(s, "\r\n", "\n") // encoding/csv reads it so
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

func write(t *testing.T, o Options, fill func(*table.Chunk), schema ...table.Field) string {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, schema, o)
	c := table.NewChunk(schema)
	fill(c)
	if err := errors.Join(w.Write(c), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Null, an empty text and a text that looks like null are three things.
func TestNullIsNotEmpty(t *testing.T) {
	fill := func(c *table.Chunk) {
		for i := range 2 {
			col := c.Column(i)
			col.AppendNull()
			col.AppendString("")
			col.AppendString("NULL")
		}
	}
	a, b := table.Field{Name: "a", Type: table.String}, table.Field{Name: "b", Type: table.String}
	if got, want := write(t, Options{}, fill, a, b), "a,b\r\n,\r\n\"\",\"\"\r\nNULL,NULL\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := write(t, Options{Null: "NULL"}, fill, a, b), "a,b\r\nNULL,NULL\r\n\"\",\"\"\r\n\"NULL\",\"NULL\"\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// One column of nulls is still a row to a reader that skips empty lines.
	if got, want := write(t, Options{}, func(c *table.Chunk) { c.Column(0).AppendNull() }, a), "a\r\n\"\"\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Typed numbers are never touched by the guard.
func TestGuardLeavesNumbers(t *testing.T) {
	got := write(t, Options{}, func(c *table.Chunk) {
		c.Column(0).AppendInt(-1)
		c.Column(1).AppendFloat(-1.5)
		c.Column(2).AppendString("-1.5")
		c.Column(3).AppendString("-1.5")
		c.Column(4).AppendString("-1+cmd")
	}, table.Field{Name: "i", Type: table.Int}, table.Field{Name: "f", Type: table.Float}, table.Field{Name: "s", Type: table.String},
		table.Field{Name: "j", Type: table.JSON}, table.Field{Name: "=x", Type: table.JSON})
	if want := "i,f,s,j,\"'=x\"\r\n-1,-1.5,-1.5,-1.5,\"'-1+cmd\"\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOptionsCheck(t *testing.T) {
	for name, o := range map[string]Options{
		"delimiter": {Delimiter: 'x'}, "decimal": {Decimal: 'x', Delimiter: ';'}, "both": {Decimal: ','},
		"null quote": {Null: `"`}, "null delimiter": {Null: "a;b", Delimiter: ';'}, "null line": {Null: "\n"}, "null long": {Null: strings.Repeat("x", 17)},
	} {
		if err := o.Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Options{}).Check(); err != nil {
		t.Error(err)
	}
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

// A failure is told, stays, and nothing is written after it.
func TestFailuresStay(t *testing.T) {
	c := table.NewChunk(tabletest.Plain)
	tabletest.FillPlain(c, 0, 5000)
	w := NewWriter(&failing{after: 100_000}, tabletest.Plain, Options{})
	if err := w.Write(c); err == nil || err.Error() != "disk full" {
		t.Error(err)
	}
	if err := w.Close(); err == nil || err.Error() != "disk full" {
		t.Error(err)
	}
	late := table.NewChunk(table.Schema{{Name: "t", Type: table.Time}})
	late.Column(0).AppendInt(math.MaxInt64)
	w = NewWriter(io.Discard, late.Schema(), Options{})
	if err := w.Write(late); fault.CodeOf(err) != "time_out_of_range" {
		t.Error(err)
	}
	uneven := table.NewChunk(table.Schema{{Name: "a", Type: table.Int}, {Name: "b", Type: table.Int}})
	uneven.Column(0).AppendInt(1)
	if err := NewWriter(io.Discard, uneven.Schema(), Options{}).Write(uneven); err == nil {
		t.Error("uneven columns are written")
	}
}

// The guard leaves what is wholly a number as it is.
func TestNumbersAreNoFormulas(t *testing.T) {
	for text, want := range map[string]bool{"-1": false, "+49": false, "-0.5e-3": false, "-1+1": true, "-": true, "-inf": true, "+0x1p1": true, "-1_0": true, "=1": true, "-1 ": true} {
		if formula([]byte(text)) != want {
			t.Errorf("%q is a formula: %t", text, !want)
		}
	}
}
