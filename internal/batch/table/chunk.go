package table

import "sluice/internal/platform/fault"

// Chunk is some rows of a table, column by column. It is not for concurrent
// use.
type Chunk struct {
	schema  Schema
	columns []Column
}

// NewChunk returns an empty chunk of tables with the schema, which must be
// right (see Check).
func NewChunk(schema Schema) *Chunk {
	c := &Chunk{schema: schema, columns: make([]Column, len(schema))}
	for i, f := range schema {
		c.columns[i].Type = f.Type
	}
	return c
}

// Schema returns the fields of the columns.
func (c *Chunk) Schema() Schema { return c.schema }

// Column returns column i, to be filled or read.
func (c *Chunk) Column(i int) *Column { return &c.columns[i] }

// Rows returns the number of whole rows: of cells in the shortest column.
func (c *Chunk) Rows() int {
	if len(c.columns) == 0 {
		return 0
	}
	rows := c.columns[0].Len()
	for i := range c.columns[1:] {
		rows = min(rows, c.columns[i+1].Len())
	}
	return rows
}

// Bytes returns the memory that the rows take: what a reader bounds a chunk by.
func (c *Chunk) Bytes() int {
	n := 0
	for i := range c.columns {
		n += c.columns[i].Bytes()
	}
	return n
}

// Reset drops all rows and keeps their memory for the next.
func (c *Chunk) Reset() { c.Truncate(0) }

// Truncate drops every row from n on, also one that is only there in part: a
// reader that finds a bad cell takes the row back.
func (c *Chunk) Truncate(n int) {
	for i := range c.columns {
		if col := &c.columns[i]; col.Len() > n {
			col.truncate(n)
		}
	}
}

// Check reports a chunk whose columns are not equally long, which is a defect
// of whoever filled it: encoders refuse it rather than drop cells.
func (c *Chunk) Check() error {
	for i := range c.columns {
		if got, want := c.columns[i].Len(), c.columns[0].Len(); got != want {
			return fault.New(fault.Internal, "column %q has %d cells where %q has %d", c.schema[i].Name, got, c.schema[0].Name, want)
		}
	}
	return nil
}
