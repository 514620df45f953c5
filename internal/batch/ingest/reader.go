package ingest

import (
	"errors"
	"io"
	"slices"

	"sluice/internal/batch/table"
)

// rows takes the cells out of records.
type rows interface {
	// take splits the record; cell is of the columns that are wanted, by their place
	// among them, and nil where the row has none.
	take(record []byte) *RowError
	cell(column int) []byte
	// element appends the element, or the elements of a list, that a cell says.
	element(dst []byte, t Type, cell []byte) ([]byte, *RowError)
	list(dst []byte, t Type, width int, cell []byte) ([]byte, *RowError)
	// text returns the text that a cell is, for a row's name.
	text(cell []byte) ([]byte, *RowError)
}

// places are the columns of a spec, by their place among the wanted.
type places struct {
	inputs [][]int
	id     int // -1: none
	keep   []int
}

func layout(s *Spec) places {
	all := s.columns()
	p := places{inputs: make([][]int, len(s.Inputs)), id: slices.Index(all, s.ID), keep: make([]int, len(s.Keep))}
	for i := range s.Inputs {
		for _, name := range s.Inputs[i].Columns {
			p.inputs[i] = append(p.inputs[i], slices.Index(all, name))
		}
	}
	if s.ID == "" {
		p.id = -1
	}
	for i, name := range s.Keep {
		p.keep[i] = slices.Index(all, name)
	}
	return p
}

// textReader reads what is split into records at the ends of lines.
type textReader struct {
	body   io.Closer
	spec   *Spec
	scan   *scanner
	rows   rows
	layout places
	kept   table.Type
}

// Position implements Reader.
func (r *textReader) Position() Position { return r.scan.at }

// Forward implements Reader.
func (r *textReader) Forward(to Position) error { return r.scan.forward(to) }

// Close implements Reader.
func (r *textReader) Close() error { return r.body.Close() }

// Read implements Reader.
func (r *textReader) Read(c *Chunk, l Limit) error {
	c.reset(r.spec, r.kept)
	for begin := r.scan.at.Offset; c.Rows < l.Rows && (c.Rows == 0 || r.scan.at.Offset-begin < l.Bytes); {
		record, err := r.scan.record()
		wrong, isRow := errors.AsType[*RowError](err)
		switch {
		case errors.Is(err, io.EOF) && c.Rows > 0:
			return nil
		case err != nil && !isRow:
			return err
		}
		r.add(c, record, wrong)
	}
	return nil
}

// add adds a row to the chunk.
func (r *textReader) add(c *Chunk, record []byte, wrong *RowError) {
	if wrong == nil {
		wrong = encoded(record)
	}
	known := wrong == nil // whether there are cells to be shown
	if known {
		wrong = r.rows.take(record)
	}
	known = known && wrong == nil
	if e := r.name(c, known); wrong == nil {
		wrong = e
	}
	for i, p := range r.layout.keep {
		var cell []byte
		if known {
			cell = r.rows.cell(p)
		}
		if cell == nil {
			c.Kept[i].AppendNull()
		} else {
			c.Kept[i].AppendText(cell)
		}
	}
	if wrong == nil {
		wrong = r.tensors(c)
	}
	c.Lines = append(c.Lines, r.scan.line)
	if wrong == nil {
		c.Good = append(c.Good, c.Rows)
	} else {
		wrong.Row, wrong.Line = c.Rows, r.scan.line
		c.Errors = append(c.Errors, *wrong)
	}
	c.Rows++
	r.scan.at.Row++
}

// maxID is how many bytes a row's name may have.
const maxID = 512

// name adds the row's name.
func (r *textReader) name(c *Chunk, known bool) *RowError {
	if r.layout.id < 0 {
		return nil
	}
	var cell []byte
	if known {
		cell = r.rows.cell(r.layout.id)
	}
	if cell == nil {
		c.IDs.AppendNull()
		if known {
			return r.of(r.spec.ID, bad(CodeID, "the row has no name"))
		}
		return nil
	}
	text, wrong := r.rows.text(cell)
	if wrong == nil && (len(text) == 0 || len(text) > maxID) {
		wrong = bad(CodeID, "the row's name has %d bytes, expected 1 to %d", len(text), maxID)
	}
	if wrong != nil {
		c.IDs.AppendNull()
		return r.of(r.spec.ID, wrong)
	}
	c.IDs.AppendText(text)
	return nil
}

func (r *textReader) of(column string, e *RowError) *RowError {
	e.Column = column
	return e
}

// tensors adds the row's elements to all tensors, or to none.
func (r *textReader) tensors(c *Chunk) *RowError {
	for i := range c.Tensors {
		t := &c.Tensors[i]
		before := len(t.Data)
		column, wrong := r.input(i, t)
		if wrong == nil {
			t.ends = append(t.ends, len(t.Data))
			continue
		}
		t.Data = t.Data[:before]
		for j := range i {
			c.Tensors[j].drop()
		}
		return r.of(r.spec.Inputs[i].Columns[column], wrong)
	}
	return nil
}

// drop takes the last row back.
func (t *Tensor) drop() {
	t.ends = t.ends[:len(t.ends)-1]
	end := 0
	if n := len(t.ends); n > 0 {
		end = t.ends[n-1]
	}
	t.Data = t.Data[:end]
}

// input adds the elements of an input. It returns which of its columns is wrong.
func (r *textReader) input(i int, t *Tensor) (column int, wrong *RowError) {
	in := &r.spec.Inputs[i]
	if len(in.Columns) == 1 && in.Width != 1 {
		cell := r.rows.cell(r.layout.inputs[i][0])
		if cell == nil {
			return 0, bad(CodeMissing, "there is no value")
		}
		t.Data, wrong = r.rows.list(t.Data, in.Type, in.Width, cell)
		return 0, wrong
	}
	for column, p := range r.layout.inputs[i] {
		cell := r.rows.cell(p)
		if cell == nil {
			return column, bad(CodeMissing, "there is no value")
		}
		if t.Data, wrong = r.rows.element(t.Data, in.Type, cell); wrong != nil {
			return column, wrong
		}
	}
	return 0, nil
}
