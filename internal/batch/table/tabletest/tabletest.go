// Package tabletest has tables for the tests of decoders and encoders: drawn
// ones that try to break them, and a plain large one to measure with.
package tabletest

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/batch/table"
)

// Types are all types of columns.
var Types = []table.Type{table.String, table.JSON, table.Int, table.Float, table.Float32, table.Bool, table.Time}

// Cell returns a cell as a Go value: string, json.RawMessage, int64, float64,
// float32, bool or time.Time in UTC; nil for null.
func Cell(c *table.Column, row int) any {
	if c.Null(row) {
		return nil
	}
	switch c.Type {
	case table.String:
		return string(c.Text(row))
	case table.JSON:
		return json.RawMessage(append([]byte(nil), c.Text(row)...))
	case table.Int:
		return c.Ints[row]
	case table.Float:
		return c.Floats[row]
	case table.Float32:
		return c.Float32s[row]
	case table.Bool:
		return c.Bools[row]
	default:
		return time.UnixMicro(c.Ints[row]).UTC()
	}
}

// Rows returns all cells of a chunk, row by row.
func Rows(c *table.Chunk) [][]any {
	rows := make([][]any, c.Rows())
	for r := range rows {
		rows[r] = make([]any, len(c.Schema()))
		for i := range rows[r] {
			rows[r][i] = Cell(c.Column(i), r)
		}
	}
	return rows
}

// Schema draws a schema of one to six columns.
func Schema(t *rapid.T) table.Schema {
	s := make(table.Schema, rapid.IntRange(1, 6).Draw(t, "columns"))
	for i := range s {
		name := rapid.SampledFrom([]string{"c", "größe", "a b", `"q"`, "x,y", "=1+1", "<a>&"}).Draw(t, "name")
		s[i] = table.Field{Name: fmt.Sprintf("%s%d", name, i), Type: rapid.SampledFrom(Types).Draw(t, "type")}
		if s[i].Type == table.JSON {
			s[i].Items = rapid.SampledFrom([]table.Type{0, table.String, table.Int, table.Float, table.Float32, table.Bool}).Draw(t, "items")
		}
	}
	return s
}

// Fill resets a chunk and draws rows into it.
func Fill(t *rapid.T, c *table.Chunk, most int) {
	c.Reset()
	for range rapid.IntRange(0, most).Draw(t, "rows") {
		for i, f := range c.Schema() {
			if col := c.Column(i); rapid.IntRange(0, 4).Draw(t, "null") == 0 {
				col.AppendNull()
			} else if f.Items != 0 {
				col.AppendText(list(t, f.Items))
			} else {
				draw(t, col)
			}
		}
	}
}

// Texts draws texts of the kind that breaks encoders.
func Texts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{
			"", " ", "a,b", `say "hi"`, "two\nlines", "cr\r\nlf", "\r", "=1+1", "-1", "+49", "@x", "\tx", "＝1", "NULL", `\N`, `\.`, "nul\x00", "\x01\x1f",
			"_x000D_", "_x005F_x000D_", "<b>&amp;</b>", "]]>", " led", "trailed ", "\ufffe\uffff", "\u2028", "😀", "\ufeffbom", "1e5", "true", "2026-01-01",
		}),
	)
}

// list draws a list of items, and nulls among them, as JSON.
func list(t *rapid.T, items table.Type) []byte {
	c := table.Column{Type: items}
	values := make([]any, rapid.IntRange(0, 4).Draw(t, "length"))
	for i := range values {
		draw(t, &c)
		values[i] = Cell(&c, i)
		if text, ok := values[i].(string); ok {
			values[i] = strings.ToValidUTF8(text, "?")
		}
		if x, ok := values[i].(float64); ok && (math.IsNaN(x) || math.IsInf(x, 0)) {
			values[i] = nil
		}
	}
	b, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func draw(t *rapid.T, col *table.Column) {
	switch col.Type {
	case table.String:
		col.AppendString(Texts().Draw(t, "text"))
	case table.JSON:
		col.AppendString(rapid.SampledFrom([]string{`{"a":[1,2]}`, "-1.5", `"t"`, "null", "[]", "{\n \"a\": 1\r\n}", `{"b":"<\u0001>"}`}).Draw(t, "json"))
	case table.Int:
		col.AppendInt(rapid.Int64().Draw(t, "int"))
	case table.Float:
		col.AppendFloat(rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Int64Range(-1e6, 1e6), func(n int64) float64 { return float64(n) / 1000 }),
			rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)})).Draw(t, "float"))
	case table.Float32:
		col.AppendFloat(float64(rapid.Float32().Draw(t, "float32")))
	case table.Bool:
		col.AppendBool(rapid.Bool().Draw(t, "bool"))
	case table.Time:
		// The years 1601 to 2600.
		col.AppendInt(rapid.Int64Range(-11644473600e6, 19880899200e6).Draw(t, "time"))
	}
}

// Plain is the schema that encoders are measured with: ten columns as a table
// of predictions has them.
var Plain = table.Schema{
	{Name: "id", Type: table.String}, {Name: "model", Type: table.String}, {Name: "version", Type: table.Int}, {Name: "created_at", Type: table.Time},
	{Name: "latency_ms", Type: table.Float}, {Name: "score", Type: table.Float}, {Name: "rows", Type: table.Int}, {Name: "cached", Type: table.Bool},
	{Name: "country", Type: table.String}, {Name: "amount", Type: table.Float},
}

// FillPlain resets a chunk of schema Plain and puts rows number first and
// following into it.
func FillPlain(c *table.Chunk, first, rows int) {
	c.Reset()
	countries := [...]string{"DE", "FR", "US", "JP", "BR"}
	var id []byte
	for n := first; n < first+rows; n++ {
		h := uint64(n+1) * 0x9e3779b97f4a7c15
		id = fmt.Appendf(id[:0], "pred_%016x%08x", h, n)
		c.Column(0).AppendText(id)
		c.Column(1).AppendString("fraud-detector")
		c.Column(2).AppendInt(int64(n%7 + 1))
		c.Column(3).AppendInt(1_790_000_000_000_000 + int64(n)*1_234_567)
		c.Column(4).AppendFloat(float64(h>>44) / 1000)
		c.Column(5).AppendFloat(float64(h>>11) / (1 << 53))
		c.Column(6).AppendInt(int64(h >> 54))
		c.Column(7).AppendBool(h&1 == 0)
		c.Column(8).AppendString(countries[n%len(countries)])
		c.Column(9).AppendFloat(float64(h>>40) / 100)
	}
}
