package table

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func TestSchemaCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		schema Schema
		want   string // part of the message; empty for none
	}{
		"right":     {Schema{{Name: "a", Type: String}, {Name: "A", Type: Time}, {Name: "größe in m²", Type: Float32}}, ""},
		"nothing":   {nil, "between 1 and"},
		"too many":  {make(Schema, MaxColumns+1), "between 1 and"},
		"no name":   {Schema{{Name: "a", Type: Int}, {Name: "", Type: Int}}, "column 2"},
		"long name": {Schema{{Name: strings.Repeat("x", MaxName+1), Type: Int}}, "too long"},
		"bad UTF-8": {Schema{{Name: "\xff", Type: Int}}, "not UTF-8"},
		"newline":   {Schema{{Name: "a\nb", Type: Int}}, "control"},
		"no type":   {Schema{{Name: "a", Type: 0}}, "type"},
		"past type": {Schema{{Name: "a", Type: Time + 1}}, "type"},
		"lists":     {Schema{{Name: "a", Type: JSON, Items: Float32}}, ""},
		"items":     {Schema{{Name: "a", Type: Int, Items: Int}}, "items"},
		"no items":  {Schema{{Name: "a", Type: JSON, Items: Time}}, "items"},
		"twice":     {Schema{{Name: "a", Type: Int}, {Name: "b", Type: Int}, {Name: "a", Type: Bool}}, `columns 1 and 3 are both called "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.schema.Check()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want invalid with %q", err, tt.want)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	s := Schema{{Name: "a", Type: Int}, {Name: "b", Type: String}}
	if s.Index("b") != 1 || s.Index("c") != -1 {
		t.Errorf("b is at %d, c at %d", s.Index("b"), s.Index("c"))
	}
	if got := fmt.Sprint(Type(0), String, Time, Type(99)); got != "invalid string time invalid" {
		t.Error(got)
	}
}

// cell is what the model of a chunk holds: nil for null.
type cell any

func draw(t *rapid.T, typ Type) cell {
	if rapid.IntRange(0, 3).Draw(t, "null") == 0 {
		return nil
	}
	switch typ {
	case String, JSON:
		return rapid.String().Draw(t, "text")
	case Float:
		return rapid.Float64().Draw(t, "float")
	case Float32:
		return rapid.Float32().Draw(t, "float32")
	case Bool:
		return rapid.Bool().Draw(t, "bool")
	default:
		return rapid.Int64().Draw(t, "int")
	}
}

func add(c *Column, v cell) {
	switch v := v.(type) {
	case nil:
		c.AppendNull()
	case string:
		c.AppendString(v)
	case float64:
		c.AppendFloat(v)
	case float32:
		c.AppendFloat(float64(v))
	case bool:
		c.AppendBool(v)
	case int64:
		c.AppendInt(v)
	}
}

func at(c *Column, i int) cell {
	if c.Null(i) {
		return nil
	}
	switch c.Type {
	case String, JSON:
		return string(c.Text(i))
	case Float:
		return c.Floats[i]
	case Float32:
		return c.Float32s[i]
	case Bool:
		return c.Bools[i]
	default:
		return c.Ints[i]
	}
}

// A chunk holds what was put in, across resets and rows taken back.
func TestChunkHoldsWhatWasPutIn(t *testing.T) {
	schema := Schema{{Name: "s", Type: String}, {Name: "j", Type: JSON}, {Name: "i", Type: Int}, {Name: "f", Type: Float}, {Name: "g", Type: Float32}, {Name: "b", Type: Bool}, {Name: "t", Type: Time}}
	rapid.Check(t, func(t *rapid.T) {
		c := NewChunk(schema)
		var model [][]cell
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				row := make([]cell, len(schema))
				for i, f := range schema {
					row[i] = draw(t, f.Type)
					add(c.Column(i), row[i])
				}
				model = append(model, row)
			},
			"half a row, taken back": func(t *rapid.T) {
				for i := range rapid.IntRange(1, len(schema)-1).Draw(t, "cells") {
					add(c.Column(i), draw(t, schema[i].Type))
				}
				if c.Check() == nil {
					t.Fatal("half a row passes the check")
				}
				c.Truncate(c.Rows())
			},
			"truncate": func(t *rapid.T) {
				n := rapid.IntRange(0, len(model)).Draw(t, "rows")
				c.Truncate(n)
				model = model[:n]
			},
			"reset": func(*rapid.T) {
				c.Reset()
				model = nil
				if c.Bytes() != 0 {
					t.Fatalf("an empty chunk takes %d bytes", c.Bytes())
				}
			},
			"": func(t *rapid.T) {
				if err := c.Check(); err != nil {
					t.Fatal(err)
				}
				if c.Rows() != len(model) {
					t.Fatalf("%d rows, want %d", c.Rows(), len(model))
				}
				for r, row := range model {
					for i := range schema {
						if got := at(c.Column(i), r); !same(got, row[i]) {
							t.Fatalf("row %d, column %q: %v, want %v", r, schema[i].Name, got, row[i])
						}
					}
				}
			},
		})
	})
}

func same(a, b cell) bool {
	if x, ok := a.(float64); ok {
		y, ok := b.(float64)
		return ok && math.Float64bits(x) == math.Float64bits(y)
	}
	return cmp.Equal(a, b)
}

// A page appended at once leaves older nulls where they are.
func TestPagesAppendedAtOnce(t *testing.T) {
	c := NewChunk(Schema{{Name: "x", Type: Float32}})
	col := c.Column(0)
	col.AppendNull()
	col.Float32s = append(col.Float32s, 1, 2, 3)
	col.SetNull(2)
	var got []cell
	for i := range col.Len() {
		got = append(got, at(col, i))
	}
	if diff := cmp.Diff([]cell{nil, float32(1), nil, float32(3)}, got); diff != "" {
		t.Error(diff)
	}
}

// A column that is added at once is as if its cells were added one by one.
func TestAppendColumn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typ := Type(rapid.IntRange(int(String), int(Time)).Draw(t, "type"))
		at, one := &Column{Type: typ}, &Column{Type: typ}
		for range rapid.IntRange(0, 4).Draw(t, "columns") {
			from := &Column{Type: typ}
			for range rapid.IntRange(0, 5).Draw(t, "cells") {
				add(from, draw(t, typ))
			}
			at.AppendColumn(from)
			for i := range from.Len() {
				one.AppendCell(from, i)
			}
		}
		if diff := cmp.Diff(one, at, cmp.AllowUnexported(Column{}), cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}
