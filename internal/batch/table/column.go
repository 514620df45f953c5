package table

// Column is the cells of one field. Exactly one of the slices is in use, as the
// type says; a null cell has a zero there, so that all columns of a chunk stay
// equally long. Fill it with the Append methods or, for whole pages at once, by
// appending to the slice of its type.
type Column struct {
	Type     Type
	Ints     []int64 // Int; Time, in microseconds since 1970 UTC
	Floats   []float64
	Float32s []float32
	Bools    []bool

	text  []byte // String and JSON, one after the other
	ends  []int  // where each text ends
	nulls []bool // as far as the last null cell, so empty where there is none
}

// Len returns the number of cells.
func (c *Column) Len() int {
	switch c.Type {
	case String, JSON:
		return len(c.ends)
	case Float:
		return len(c.Floats)
	case Float32:
		return len(c.Float32s)
	case Bool:
		return len(c.Bools)
	default:
		return len(c.Ints)
	}
}

// Null reports whether cell i is null.
func (c *Column) Null(i int) bool { return i < len(c.nulls) && c.nulls[i] }

// Text returns the text of cell i of a String or JSON column, empty for null.
// It is valid until the chunk is reset, and not to be changed.
func (c *Column) Text(i int) []byte {
	start := 0
	if i > 0 {
		start = c.ends[i-1]
	}
	return c.text[start:c.ends[i]:c.ends[i]]
}

// AppendText adds a text; the bytes are copied.
func (c *Column) AppendText(text []byte) {
	c.text = append(c.text, text...)
	c.ends = append(c.ends, len(c.text))
}

// AppendString is AppendText of a string.
func (c *Column) AppendString(text string) {
	c.text = append(c.text, text...)
	c.ends = append(c.ends, len(c.text))
}

// AppendInt adds a number to an Int column, or microseconds to a Time one.
func (c *Column) AppendInt(v int64) { c.Ints = append(c.Ints, v) }

// AppendFloat adds a number to a Float or a Float32 column.
func (c *Column) AppendFloat(v float64) {
	if c.Type == Float32 {
		c.Float32s = append(c.Float32s, float32(v))
		return
	}
	c.Floats = append(c.Floats, v)
}

// AppendBool adds a truth value.
func (c *Column) AppendBool(v bool) { c.Bools = append(c.Bools, v) }

// AppendNull adds a cell that has no value.
func (c *Column) AppendNull() {
	switch c.Type {
	case String, JSON:
		c.ends = append(c.ends, len(c.text))
	case Float:
		c.Floats = append(c.Floats, 0)
	case Float32:
		c.Float32s = append(c.Float32s, 0)
	case Bool:
		c.Bools = append(c.Bools, false)
	default:
		c.Ints = append(c.Ints, 0)
	}
	c.SetNull(c.Len() - 1)
}

// SetNull makes a cell that is there null. Its value must be the zero one.
func (c *Column) SetNull(i int) {
	for len(c.nulls) <= i {
		c.nulls = append(c.nulls, false)
	}
	c.nulls[i] = true
}

// Bytes returns the memory that the cells take, the room for more not counted.
func (c *Column) Bytes() int {
	return len(c.text) + 8*(len(c.ends)+len(c.Ints)+len(c.Floats)) + 4*len(c.Float32s) + len(c.Bools) + len(c.nulls)
}

// truncate drops every cell from n on.
func (c *Column) truncate(n int) {
	switch c.Type {
	case String, JSON:
		c.ends = c.ends[:n]
		end := 0
		if n > 0 {
			end = c.ends[n-1]
		}
		c.text = c.text[:end]
	case Float:
		c.Floats = c.Floats[:n]
	case Float32:
		c.Float32s = c.Float32s[:n]
	case Bool:
		c.Bools = c.Bools[:n]
	default:
		c.Ints = c.Ints[:n]
	}
	c.nulls = c.nulls[:min(n, len(c.nulls))]
}

// AppendCell adds a copy of cell i of another column of the same type.
func (c *Column) AppendCell(from *Column, i int) {
	if from.Null(i) {
		c.AppendNull()
		return
	}
	switch c.Type {
	case String, JSON:
		c.AppendText(from.Text(i))
	case Float:
		c.Floats = append(c.Floats, from.Floats[i])
	case Float32:
		c.Float32s = append(c.Float32s, from.Float32s[i])
	case Bool:
		c.Bools = append(c.Bools, from.Bools[i])
	default:
		c.Ints = append(c.Ints, from.Ints[i])
	}
}

// AppendColumn adds copies of all cells of another column of the same type.
func (c *Column) AppendColumn(from *Column) {
	for i, null := range from.nulls {
		if null {
			c.SetNull(c.Len() + i)
		}
	}
	for _, end := range from.ends {
		c.ends = append(c.ends, len(c.text)+end)
	}
	c.text = append(c.text, from.text...)
	c.Ints, c.Floats = append(c.Ints, from.Ints...), append(c.Floats, from.Floats...)
	c.Float32s, c.Bools = append(c.Float32s, from.Float32s...), append(c.Bools, from.Bools...)
}
