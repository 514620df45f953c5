package batcher

import (
	"encoding/json"
	"math"

	"sluice/internal/platform/fault"
)

// costJSON is the stored form of a table: the cells of the known columns, and
// null for the others.
type costJSON struct {
	Sizes   []int       `json:"sizes"`
	Columns [][]float64 `json:"columns_ns"`
	Spread  float64     `json:"spread"`
}

// MarshalJSON writes the table, so that a warm-up sweep can be cached.
func (c *Cost) MarshalJSON() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := costJSON{Sizes: c.sizes, Spread: math.Float64frombits(c.spread.Load())}
	for k := range c.columns {
		col := &c.columns[k]
		var cells []float64
		if col.source.Load() == int32(k) {
			for i := range c.sizes {
				cells = append(cells, math.Round(col.at(i)))
			}
		}
		out.Columns = append(out.Columns, cells)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote. It must not run while the table
// is in use.
func (c *Cost) UnmarshalJSON(data []byte) error {
	var in costJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fault.Wrap(fault.Invalid, err, "cost table: not valid JSON of the expected form")
	}
	if err := in.validate(); err != nil {
		return err
	}
	c.init(in.Sizes, len(in.Columns))
	for k, cells := range in.Columns {
		if len(cells) == 0 {
			continue
		}
		c.open(k, c.sizes[0], cells[0])
		col := &c.columns[k]
		for i, d := range cells {
			col.set(i, d)
			col.seen[i], col.run[i] = trustAfter, true
		}
		c.reach(col, len(cells))
	}
	c.spread.Store(math.Float64bits(min(max(in.Spread, 1), maxSpread)))
	return nil
}

func (j *costJSON) validate() error {
	if len(j.Sizes) == 0 || len(j.Sizes) > maxCells || len(j.Columns) == 0 {
		return fault.New(fault.Invalid, "cost table: expected 1 to %d sizes and some columns_ns, got %d and %d",
			maxCells, len(j.Sizes), len(j.Columns))
	}
	for i, n := range j.Sizes {
		if n < 1 || i > 0 && n <= j.Sizes[i-1] {
			return fault.New(fault.Invalid, "cost table: sizes must be positive and ascending, got %v", j.Sizes)
		}
	}
	for k, cells := range j.Columns {
		if len(cells) != 0 && len(cells) != len(j.Sizes) {
			return fault.New(fault.Invalid, "cost table: column %d has %d cells, expected %d", k, len(cells), len(j.Sizes))
		}
		for i, d := range cells {
			if !(d > 0) || d > math.MaxInt64/4 || i > 0 && d < cells[i-1] {
				return fault.New(fault.Invalid, "cost table: column %d must hold positive, non-decreasing nanoseconds, got %v", k, cells)
			}
		}
	}
	return nil
}
