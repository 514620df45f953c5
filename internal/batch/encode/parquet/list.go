package parquet

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// listOf is the node of lists that may be null, of items that may be null: the three levels of
// the format's specification (LogicalTypes.md, "Lists"), which every reader knows.
func listOf(items table.Type) parquet.Node {
	return parquet.Optional(parquet.List(parquet.Optional(nodeOf(items))))
}

// The definition levels of listOf.
const (
	noList = iota
	emptyList
	nullItem
	anItem
)

// appendList appends the items of a list, which is JSON.
func appendList(values []parquet.Value, text []byte, items table.Type, column int) ([]parquet.Value, error) {
	inner := bytes.TrimSpace(text)
	if len(inner) < 2 || inner[0] != '[' || inner[len(inner)-1] != ']' {
		return values, errList(text, items)
	}
	if inner = bytes.TrimSpace(inner[1 : len(inner)-1]); len(inner) == 0 {
		return append(values, parquet.NullValue().Level(0, emptyList, column)), nil
	}
	if items == table.String {
		return appendTexts(values, text, column)
	}
	repetition := 0
	for item := range bytes.SplitSeq(inner, []byte(",")) {
		v, err := itemOf(bytes.TrimSpace(item), items)
		if err != nil {
			return values, errList(text, items)
		}
		values = append(values, level(v, repetition, column))
		repetition = 1
	}
	return values, nil
}

func appendTexts(values []parquet.Value, text []byte, column int) ([]parquet.Value, error) {
	var texts []*string
	if err := json.Unmarshal(text, &texts); err != nil {
		return values, errList(text, table.String)
	}
	for i, t := range texts {
		var v parquet.Value
		if t != nil {
			v = parquet.ByteArrayValue([]byte(*t))
		}
		values = append(values, level(v, min(i, 1), column))
	}
	return values, nil
}

// itemOf is a value of JSON that is no text; null is the null value.
func itemOf(item []byte, t table.Type) (v parquet.Value, err error) {
	text := string(item)
	if text == "null" {
		return v, nil
	}
	switch t {
	case table.Float:
		x, err := strconv.ParseFloat(text, 64)
		return parquet.DoubleValue(x), err
	case table.Float32:
		x, err := strconv.ParseFloat(text, 32)
		return parquet.FloatValue(float32(x)), err
	case table.Bool:
		if text != "true" && text != "false" {
			return v, strconv.ErrSyntax
		}
		return parquet.BooleanValue(text == "true"), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return parquet.Int64Value(n), err
}

func level(v parquet.Value, repetition, column int) parquet.Value {
	if v.IsNull() {
		return v.Level(repetition, nullItem, column)
	}
	return v.Level(repetition, anItem, column)
}

func errList(text []byte, items table.Type) error {
	return fault.New(fault.Internal, "a cell is no list of %s: %s", items, fault.Clip(string(text), 80))
}
