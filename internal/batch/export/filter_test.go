package export

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"sluice/internal/batch/table"
)

// What is no number is not less than one, nor more, nor equal: only ne finds it.
func TestFilterOfNaN(t *testing.T) {
	for _, typ := range []table.Type{table.Float, table.Float32} {
		schema := table.Schema{{Name: "x", Type: typ}}
		c := table.NewChunk(schema)
		for _, x := range []float64{math.NaN(), 1, 2, 3} {
			c.Column(0).AppendFloat(x)
		}
		c.Column(0).AppendNull()
		for op, want := range map[string][]int{"lt": {1}, "le": {1, 2}, "eq": {2}, "ge": {2, 3}, "gt": {3}, "ne": {0, 1, 3}} {
			keep, err := compile(schema, []Filter{{Column: "x", Op: op, Value: json.RawMessage("2")}})
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for row := range c.Rows() {
				if keep(c, row) {
					got = append(got, row)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s of %s: rows %v, expected %v", op, typ, got, want)
			}
		}
	}
}
