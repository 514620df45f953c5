// Package ingest reads files of rows into columns: Parquet, Arrow IPC, Excel workbooks, and
// CSV and JSON Lines, plain or compressed. What a model takes becomes tensors, row after row in the form that it
// runs on; a row that cannot be read is an error with its line, and costs no other.
//
// Readers hold one chunk, of as many rows and bytes as the caller says, and one
// row beyond it, whose size is bounded too. They say where a chunk ends, and go on
// from there later, in another process perhaps: the same file at the same position
// gives the same chunk.
//
// Limits: a position in a compressed file, in one that is not UTF-8, and in a workbook, is
// reached by reading what is before it. Of a workbook the texts that its cells share are
// held, some tens of megabytes at most; of merged cells the first has the value.
package ingest

import (
	"io"
	"math"
	"slices"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Type is what elements of a tensor are, by the names of the Open Inference
// Protocol.
type Type string

// Size returns the bytes of an element, 0 for BYTES and for types that cannot be
// read.
func (t Type) Size() int { return sizes[t] }

// Readable says whether elements of the type can be read from files.
func (t Type) Readable() bool {
	_, ok := sizes[t]
	return ok
}

// Bytes is the type of texts, each behind its length in four bytes.
const Bytes Type = "BYTES"

var sizes = map[Type]int{
	"BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8, "FP32": 4, "FP64": 8, Bytes: 0,
}

// Input is a tensor that is made of columns: of as many as it has elements in a
// row, or of one whose cells are lists of that many, nested or not.
type Input struct {
	Name    string   `json:"name"`
	Type    Type     `json:"type"`
	Width   int      `json:"width"` // elements in a row
	Columns []string `json:"columns"`
}

// Spec says what is read of each row.
type Spec struct {
	Inputs []Input  `json:"inputs"`
	ID     string   `json:"id,omitempty"`   // the column with the row's own name; empty: there is none
	Keep   []string `json:"keep,omitempty"` // columns that come along as they are
}

// columns returns the names of the columns that are read, each once.
func (s *Spec) columns() []string {
	var all []string
	seen := map[string]bool{}
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			all = append(all, name)
		}
	}
	for i := range s.Inputs {
		for _, name := range s.Inputs[i].Columns {
			add(name)
		}
	}
	add(s.ID)
	for _, name := range s.Keep {
		add(name)
	}
	return all
}

// onlyInput refuses a column of lists that is to be shown.
func (s *Spec) onlyInput(name string) error {
	if name != s.ID && !slices.Contains(s.Keep, name) {
		return nil
	}
	return fault.New(fault.Unprocessable, "the column %q has lists, which can be inputs of the model, but not a row's name nor repeated in the results", fault.Clip(name, 80)).WithCode("column_type")
}

// fits refuses a column as an input whose values are no numbers, such as instants.
func (s *Spec) fits(name string, m *meaning) error {
	input := func(in Input) bool { return slices.Contains(in.Columns, name) }
	if !m.is() || m.number || !slices.ContainsFunc(s.Inputs, input) {
		return nil
	}
	return fault.New(fault.Unprocessable, "the column %q is a %s, which can be a row's name and be repeated in the results, but is no input of a model: write it as the number or text that the model takes", fault.Clip(name, 80), m.name).WithCode("column_type")
}

// Position is a place between two rows of a file.
type Position struct {
	Offset int64 `json:"offset"`         // bytes of the decoded content; in columnar files the row, in a workbook its number in the sheet
	Row    int64 `json:"row"`            // rows before it
	Line   int64 `json:"line,omitempty"` // lines before it, where the file has lines
}

// Limit is what a chunk may hold: it ends with the row that reaches one of them.
type Limit struct {
	Rows  int
	Bytes int64 // of the file's content; of columnar files, as it is decoded
}

// MaxRow is how many bytes of the file one row may take; default of Options.
const MaxRow = 4 << 20

// Chunk is some rows of a file. It is filled by a Reader, and used again.
type Chunk struct {
	Rows    int
	IDs     table.Column   // of all rows; empty where the Spec names no column
	Kept    []table.Column // of all rows
	Tensors []Tensor       // of the good rows
	Good    []int          // which rows of the chunk these are, ascending
	Lines   []int64        // of all rows, where the file has lines
	Errors  []RowError     // of the others, ascending
	Sum     uint32         // of the bytes of all rows, in text: it tells whether they are those that were read before; 0: unknown
}

// RowError says why a row cannot be used.
type RowError struct {
	Row     int    `json:"row"` // in its chunk
	Line    int64  `json:"line,omitempty"`
	Column  string `json:"column,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (e *RowError) Error() string { return e.Message }

// Tensor holds the elements of an input, little-endian and without padding.
type Tensor struct {
	Data []byte
	ends []int // where each row ends, for BYTES
	row  int   // bytes of a row, otherwise
}

// Slice returns the elements of the rows from first to before last. They are valid
// until the chunk is filled again.
func (t *Tensor) Slice(first, last int) []byte {
	if t.row > 0 {
		return t.Data[first*t.row : last*t.row]
	}
	begin, end := 0, 0
	if first > 0 {
		begin = t.ends[first-1]
	}
	if last > 0 {
		end = t.ends[last-1]
	}
	return t.Data[begin:end]
}

// Reader reads a file chunk by chunk. It is not safe for concurrent use.
type Reader interface {
	// Read fills the chunk, of which nothing stays, or returns io.EOF where there are no
	// more rows. Rows that damage has cost are bad ones, so that those around it are
	// there; any other error is the file's: nothing behind it can be read.
	Read(c *Chunk, l Limit) error
	// Position returns where the next chunk begins.
	Position() Position
	// Forward goes on at a later position, which a reader of the same file has given.
	Forward(to Position) error
	// Close gives back what the file takes.
	io.Closer
}

// reset empties the chunk for rows of the spec.
func (c *Chunk) reset(s *Spec, kept table.Type) {
	c.Rows, c.Good, c.Lines, c.Errors, c.Sum = 0, c.Good[:0], c.Lines[:0], c.Errors[:0], 0
	clearColumn(&c.IDs, table.String)
	if len(c.Kept) != len(s.Keep) {
		c.Kept = make([]table.Column, len(s.Keep))
	}
	for i := range c.Kept {
		clearColumn(&c.Kept[i], kept)
	}
	if len(c.Tensors) != len(s.Inputs) {
		c.Tensors = make([]Tensor, len(s.Inputs))
	}
	for i := range c.Tensors {
		t := &c.Tensors[i]
		t.Data, t.ends, t.row = t.Data[:0], t.ends[:0], s.Inputs[i].Width*s.Inputs[i].Type.Size()
	}
}

// maxReserve is how much room is made beforehand at most, in bytes.
const maxReserve = 32 << 20

// reserve makes room for as many rows as are known to come: tensors that grow as they are filled leave as much
// behind as they have.
func (c *Chunk) reserve(l Limit) {
	if l.Bytes != math.MaxInt64 { // it may end earlier
		return
	}
	for i := range c.Tensors {
		t := &c.Tensors[i]
		if n := min(int64(l.Rows)*int64(t.row), maxReserve); int64(cap(t.Data)) < n {
			t.Data = make([]byte, 0, n)
		}
	}
}

// clearColumn empties a column.
func clearColumn(c *table.Column, t table.Type) { *c = table.Column{Type: t} }
