package ingest

import (
	"bytes"
	"errors"
	"io"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// row is a row whose cells are texts.
type row interface {
	// cell returns the cell of a column that is wanted, by its place among them, nil where
	// the row has none.
	cell(column int) []byte
	// element appends the element, or the elements of a list, that a cell says.
	element(dst []byte, t Type, cell []byte) ([]byte, *RowError)
	list(dst []byte, t Type, width int, cell []byte) ([]byte, *RowError)
	// text returns the text that a cell is, for a row's name.
	text(cell []byte) ([]byte, *RowError)
}

// rows takes the cells out of records.
type rows interface {
	row
	take(record []byte) *RowError
	// quick takes a record of which nothing has to be checked any more, or says that it is not
	// that simple.
	quick(record []byte) bool
}

// places are the columns of a spec, by their place among the wanted.
type places struct {
	inputs [][]int
	id     int // -1: none
	keep   []int
}

func layout(s *Spec) places {
	all := placesOf(s.columns())
	p := places{inputs: make([][]int, len(s.Inputs)), id: -1, keep: make([]int, len(s.Keep))}
	for i := range s.Inputs {
		for _, name := range s.Inputs[i].Columns {
			p.inputs[i] = append(p.inputs[i], all(name))
		}
	}
	if s.ID != "" {
		p.id = all(s.ID)
	}
	for i, name := range s.Keep {
		p.keep[i] = all(name)
	}
	return p
}

// placesOf returns what says where a name is first; -1 for one that is not there.
func placesOf(names []string) func(name string) int {
	all := make(map[string]int, len(names))
	for i, name := range names {
		if _, twice := all[name]; !twice {
			all[name] = i
		}
	}
	return func(name string) int {
		if i, is := all[name]; is {
			return i
		}
		return -1
	}
}

// filler puts rows of texts into chunks.
type filler struct {
	spec   *Spec
	row    row
	layout places
	kept   table.Type
	stripe *stripe // nil: there is none
	pace   pace
}

// textReader reads what is split into records at the ends of lines.
type textReader struct {
	filler
	body    io.Closer
	again   func(offset int64) (io.ReadCloser, error) // opens the file anew; nil where that reads what is before it
	scan    *scanner
	rows    rows
	foreign bool // it is not kept in UTF-8
	counts  bool // the rows, and nothing else
	ended   bool // by what cannot be read
}

// Position implements Reader.
func (r *textReader) Position() Position { return r.scan.at }

// Forward implements Reader.
func (r *textReader) Forward(to Position) error {
	if r.again == nil || to.Offset-r.scan.at.Offset < farAway {
		return r.scan.forward(to)
	}
	body, err := r.again(to.Offset)
	if err != nil {
		return err
	}
	_ = r.body.Close() // of what is read no more
	r.body = body
	r.scan.restart(body, to)
	return nil
}

// farAway is how many bytes are rather passed over by opening the file again.
const farAway = 1 << 20

// Close implements Reader.
func (r *textReader) Close() error { return r.body.Close() }

// Read implements Reader.
func (r *textReader) Read(c *Chunk, l Limit) error {
	c.reset(r.spec, r.kept)
	c.reserve(l)
	if r.ended {
		return io.EOF
	}
	r.scan.sum = 0
	for begin := r.scan.at.Offset; c.Rows < l.Rows && (c.Rows == 0 || r.scan.at.Offset-begin < l.Bytes); {
		before := r.scan.at.Offset
		record, err := r.scan.record()
		wrong, isRow := errors.AsType[*RowError](err)
		switch {
		case errors.Is(err, io.EOF) && c.Rows > 0:
			return nil
		case err != nil && !isRow:
			if wrong = r.rest(err); wrong == nil {
				return err
			}
			r.ended = true
			r.take(c, nil, wrong)
			return nil
		}
		c.Sum = r.scan.sum // not of empty lines behind the last: who reads so many rows does not come to them
		r.take(c, record, wrong)
		r.pace.took(r.scan.at.Offset - before)
	}
	return nil
}

// rest is what is behind damage in a file that has rows before it: one bad row, so that
// those before are not lost. Nil where the error is not of that kind.
func (r *textReader) rest(err error) *RowError {
	if r.scan.at.Row > 0 && fault.CodeOf(err) == "csv_quote_unclosed" {
		return bad(CodeQuote, "a quote is opened in this row which is never closed: what follows is all between it")
	}
	return rest(err, r.scan.at.Row)
}

// rest is the bad row that stands for what is behind damage, where rows are before it;
// nil where there are none, or the error says nothing of the file.
func rest(err error, before int64) *RowError {
	if before == 0 || fault.CodeOf(err) != codeDamaged {
		return nil
	}
	return bad(CodeRest, "the file ends here, where more was to come: %s", fault.Of(err).Text())
}

// take takes a record as a row.
func (r *textReader) take(c *Chunk, record []byte, wrong *RowError) {
	if r.counts {
		c.Rows++
		r.scan.at.Row++
		return
	}
	if wrong == nil && !r.rows.quick(record) {
		wrong = r.check(record)
		if wrong == nil {
			wrong = r.rows.take(record)
		}
	}
	r.add(c, r.scan.line, wrong == nil, wrong)
	r.scan.at.Row++
}

// check returns what is wrong with the bytes of a record.
func (r *textReader) check(record []byte) *RowError {
	if r.foreign && bytes.Contains(record, []byte("\ufffd")) {
		return bad(CodeEncoding, "the row has bytes that are no characters in the file's encoding")
	}
	return encoded(record)
}

// add adds a row to the chunk. Of one that is known the cells can be shown, also where
// something is wrong with it.
func (r *filler) add(c *Chunk, line int64, known bool, wrong *RowError) {
	if e := r.name(c, known); wrong == nil {
		wrong = e
	}
	for i, p := range r.layout.keep {
		var cell []byte
		if known {
			cell = r.row.cell(p)
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
	c.Lines = append(c.Lines, line)
	if wrong == nil {
		c.Good = append(c.Good, c.Rows)
	} else {
		wrong.Row, wrong.Line = c.Rows, line
		c.Errors = append(c.Errors, *wrong)
	}
	c.Rows++
}

// maxID is how many bytes a row's name may have.
const maxID = 512

// name adds the row's name.
func (r *filler) name(c *Chunk, known bool) *RowError {
	if r.layout.id < 0 {
		return nil
	}
	var cell []byte
	if known {
		cell = r.row.cell(r.layout.id)
	}
	if cell == nil {
		c.IDs.AppendNull()
		if known {
			return r.of(r.spec.ID, bad(CodeID, "the row has no name"))
		}
		return nil
	}
	text, wrong := r.row.text(cell)
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

func (r *filler) of(column string, e *RowError) *RowError {
	e.Column = column
	return e
}

// tensors adds the row's elements to all tensors, or to none.
func (r *filler) tensors(c *Chunk) *RowError {
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
func (r *filler) input(i int, t *Tensor) (column int, wrong *RowError) {
	in := &r.spec.Inputs[i]
	if s := r.stripe; s != nil && s.input == i && len(s.data) > 0 {
		t.Data = append(t.Data, s.data...)
		return 0, nil
	}
	if len(in.Columns) == 1 && in.Width != 1 {
		cell := r.row.cell(r.layout.inputs[i][0])
		if cell == nil {
			return 0, bad(CodeMissing, "there is no value")
		}
		t.Data, wrong = r.row.list(t.Data, in.Type, in.Width, cell)
		return 0, wrong
	}
	for column, p := range r.layout.inputs[i] {
		cell := r.row.cell(p)
		if cell == nil {
			return column, bad(CodeMissing, "there is no value")
		}
		if t.Data, wrong = r.row.element(t.Data, in.Type, cell); wrong != nil {
			return column, wrong
		}
	}
	return 0, nil
}
