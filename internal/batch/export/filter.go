package export

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Filter is a condition on a column. A null satisfies only is_null.
type Filter struct {
	Column string          `json:"column"`
	Op     string          `json:"op"` // eq, ne, lt, le, gt, ge, is_null or not_null
	Value  json.RawMessage `json:"value,omitempty"`
}

// MaxFilters is how many an export may have.
const MaxFilters = 32

// match says whether a row is wanted.
type match func(c *table.Chunk, row int) bool

// operators by what they make of a comparison of the cell with the value.
var operators = map[string]func(int) bool{
	"eq": func(c int) bool { return c == 0 }, "ne": func(c int) bool { return c != 0 },
	"lt": func(c int) bool { return c < 0 }, "le": func(c int) bool { return c <= 0 },
	"gt": func(c int) bool { return c > 0 }, "ge": func(c int) bool { return c >= 0 },
}

// compile makes one condition of all filters.
func compile(s table.Schema, filters []Filter) (match, error) {
	if len(filters) > MaxFilters {
		return nil, fault.New(fault.Invalid, "an export has at most %d filters, not %d", MaxFilters, len(filters)).WithCode("filter_invalid")
	}
	all := make([]match, len(filters))
	for i, f := range filters {
		column := s.Index(f.Column)
		if column < 0 {
			return nil, unknownColumn(s, f.Column)
		}
		m, err := f.compile(column, s[column].Type)
		if err != nil {
			return nil, err
		}
		all[i] = m
	}
	return func(c *table.Chunk, row int) bool {
		for _, m := range all {
			if !m(c, row) {
				return false
			}
		}
		return true
	}, nil
}

func (f Filter) compile(column int, t table.Type) (match, error) {
	if f.Op == "is_null" || f.Op == "not_null" {
		return func(c *table.Chunk, row int) bool { return c.Column(column).Null(row) == (f.Op == "is_null") }, nil
	}
	op := operators[f.Op]
	if op == nil {
		return nil, fault.New(fault.Invalid, "there is no operator %q: use eq, ne, lt, le, gt, ge, is_null or not_null", fault.Clip(f.Op, 20)).WithCode("filter_invalid")
	}
	compare, err := f.comparison(t)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the filter on %s, which is of type %s, has the value %s: %s", f.Column, t, fault.Clip(string(f.Value), 80), err).WithCode("filter_invalid")
	}
	return func(c *table.Chunk, row int) bool {
		col := c.Column(column)
		if col.Null(row) {
			return false
		}
		if math.IsNaN(float(col, row)) { // which is not less than a number, nor more, nor equal
			return f.Op == "ne"
		}
		return op(compare(col, row))
	}, nil
}

// float is the number in a cell, 0 where it is of another type.
func float(c *table.Column, row int) float64 {
	switch c.Type {
	case table.Float:
		return c.Floats[row]
	case table.Float32:
		return float64(c.Float32s[row])
	}
	return 0
}

// comparison compares cells with the filter's value.
func (f Filter) comparison(t table.Type) (func(*table.Column, int) int, error) {
	switch t {
	case table.String, table.JSON:
		v, err := parse[string](f.Value)
		return func(c *table.Column, row int) int { return bytes.Compare(c.Text(row), []byte(v)) }, err
	case table.Float, table.Float32:
		v, err := parse[float64](f.Value)
		return func(c *table.Column, row int) int { return cmp.Compare(float(c, row), v) }, err
	case table.Bool:
		v, err := parse[bool](f.Value)
		return func(c *table.Column, row int) int {
			if c.Bools[row] == v {
				return 0
			}
			return 1
		}, err
	case table.Time:
		v, err := parse[time.Time](f.Value)
		return func(c *table.Column, row int) int { return cmp.Compare(c.Ints[row], v.UnixMicro()) }, err
	default:
		v, err := strconv.ParseInt(string(bytes.TrimSpace(f.Value)), 10, 64)
		if err != nil {
			err = fault.New(fault.Invalid, "a whole number is expected")
		}
		return func(c *table.Column, row int) int { return cmp.Compare(c.Ints[row], v) }, err
	}
}

func parse[T any](raw json.RawMessage) (v T, err error) {
	if err := json.Unmarshal(raw, &v); err != nil || string(raw) == "null" {
		return v, fault.New(fault.Invalid, "expected a value of the column's type; is_null and not_null ask for nulls")
	}
	return v, nil
}
