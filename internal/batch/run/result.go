package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strconv"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Schema returns the columns of a batch's results.
func Schema(b *job.Batch, m *Model) table.Schema {
	var s table.Schema
	taken := map[string]bool{}
	add := func(prefix, name string, t table.Type) *table.Field {
		for taken[name] {
			name = prefix + name
		}
		taken[name] = true
		s = append(s, table.Field{Name: name, Type: t})
		return &s[len(s)-1]
	}
	if b.Spec.ID != "" {
		add("", "row_id", table.String)
	}
	add("", "index", table.Int)
	add("", "status", table.String)
	kept := table.String
	if b.File.Format == ingest.JSONL {
		kept = table.JSON
	}
	for _, o := range m.Outputs {
		if f := add("output.", o.Name, cellType(o)); elements(o.Shape) != 1 {
			f.Items = valueType(o.Type)
		}
	}
	for _, name := range b.Spec.Keep {
		add("input.", name, kept)
	}
	add("row_", "error_code", table.String)
	add("row_", "error_message", table.String)
	return s
}

// cellType is what a row of an output is in a table: one value, or a JSON list.
func cellType(o Port) table.Type {
	if t := valueType(o.Type); elements(o.Shape) == 1 && t != 0 {
		return t
	}
	return table.JSON
}

// valueType is what a value is in a table, zero where no column can have it.
func valueType(t ingest.Type) table.Type {
	switch t {
	case "FP32":
		return table.Float32
	case "FP64":
		return table.Float
	case "BOOL":
		return table.Bool
	case ingest.Bytes:
		return table.String
	case "UINT64":
		return 0 // larger than any column of integers
	}
	return table.Int
}

// elements is how many elements a shape has, -1 where that varies.
func elements(shape []int64) int64 {
	n := int64(1)
	for _, extent := range shape {
		if extent < 0 {
			return -1
		}
		n *= extent
	}
	return n
}

// Head returns what a file of results begins with.
func Head(s table.Schema, f ingest.Format) (string, error) {
	var b bytes.Buffer
	err := write(&b, f, s, table.NewChunk(s))
	return b.String(), err
}

func write(out io.Writer, f ingest.Format, s table.Schema, c *table.Chunk) error {
	w, err := encode.New(out, s, encode.Options{Format: encode.Format(f)})
	if err == nil {
		err = w.Write(c)
	}
	if err == nil {
		err = w.Close()
	}
	return err
}

// results encodes what became of the rows, without the head, in memory that it empties before.
func (p *pass) results(b *bytes.Buffer, yield func()) ([]byte, error) {
	s := Schema(p.batch, &p.model)
	b.Reset()
	w, err := encode.New(b, s, encode.Options{Format: encode.Format(p.batch.Output.Format)})
	if err != nil {
		return nil, err
	}
	f := filling{pass: p, bad: p.failed}
	for c := table.NewChunk(s); f.row < p.chunk.Rows; yield() {
		c.Reset()
		if err := f.fill(c, min(f.row+fillRows, p.chunk.Rows)); err != nil {
			return nil, err
		}
		if err := w.Write(c); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return bytes.TrimPrefix(b.Bytes(), []byte(p.batch.Output.Head)), nil
}

// fillRows is how many rows are in a table at a time.
const fillRows = 128

// filling is where in a pass's rows the results are.
type filling struct {
	*pass
	row  int
	good int            // the first of the good rows that the row is not behind
	bad  []job.RowError // of the rows from there on
	list []byte         // memory for a cell
}

// fill puts the rows before end into a table.
func (p *filling) fill(c *table.Chunk, end int) (err error) {
	bad, good := p.bad, p.good
	defer func() { p.row, p.bad, p.good = end, bad, good }()
	for row := p.row; row < end; row++ {
		for good < len(p.chunk.Good) && p.chunk.Good[good] < row {
			good++
		}
		if !p.wanted(row) {
			continue
		}
		i := 0
		next := func() *table.Column { i++; return c.Column(i - 1) }
		if p.batch.Spec.ID != "" {
			text(next(), &p.chunk.IDs, row)
		}
		index := p.entry.Begin.Row + int64(row)
		next().AppendInt(index)
		failed := len(bad) > 0 && bad[0].Index == index
		if failed {
			next().AppendString("failed")
			for range p.model.Outputs {
				next().AppendNull()
			}
		} else {
			at := nowhere
			if good < len(p.chunk.Good) && p.chunk.Good[good] == row {
				at = p.places[good]
			}
			if at == nowhere {
				return fault.New(fault.Internal, "row %d has neither an answer nor an error", index)
			}
			next().AppendString("succeeded")
			for j := range p.parts[at.part].outputs {
				if p.list, err = p.parts[at.part].outputs[j].cell(next(), int(at.row), p.list); err != nil {
					return err
				}
			}
		}
		for j := range p.chunk.Kept {
			text(next(), &p.chunk.Kept[j], row)
		}
		if failed {
			next().AppendString(bad[0].Code)
			next().AppendString(bad[0].Message)
			bad = bad[1:]
		} else {
			next().AppendNull()
			next().AppendNull()
		}
	}
	return nil
}

func text(to, from *table.Column, row int) {
	if from.Null(row) {
		to.AppendNull()
		return
	}
	to.AppendText(from.Text(row))
}

// output is an output of a part.
type output struct {
	Tensor
	width int   // elements of a row
	ends  []int // of texts, where each row ends
}

// indexed makes outputs of tensors that fit so many rows.
func indexed(tensors []Tensor, rows int) ([]output, error) {
	all := make([]output, len(tensors))
	for i, t := range tensors {
		o := output{Tensor: t, width: 1}
		for _, extent := range t.Shape[1:] {
			o.width *= int(extent)
		}
		if t.Type == ingest.Bytes {
			o.ends = make([]int, 0, rows)
			end := 0
			for n := range rows * o.width {
				if len(t.Data)-end < 4 || uint64(len(t.Data)-end-4) < uint64(binary.LittleEndian.Uint32(t.Data[end:])) {
					return nil, errShort(t.Name)
				}
				if end += 4 + int(binary.LittleEndian.Uint32(t.Data[end:])); (n+1)%o.width == 0 {
					o.ends = append(o.ends, end)
				}
			}
			if o.width == 0 {
				o.ends = slices.Repeat([]int{0}, rows)
			}
		} else if size := t.Type.Size(); size == 0 {
			return nil, fault.New(fault.Internal, "the output %s is of the type %s, which results cannot have", t.Name, t.Type).WithCode("output_type")
		} else if len(t.Data) < rows*o.width*size {
			return nil, errShort(t.Name)
		}
		all[i] = o
	}
	return all, nil
}

func errShort(output string) error {
	return fault.New(fault.Internal, "the output %s ends early", output).WithCode("output_shape")
}

// cell appends row n. It returns the memory that it was given for that, or more.
func (o *output) cell(to *table.Column, n int, memory []byte) ([]byte, error) {
	if o.Type == ingest.Bytes {
		return memory, o.texts(to, n)
	}
	size := o.width * o.Type.Size()
	data := o.Data[n*size : (n+1)*size]
	switch to.Type {
	case table.Float32:
		to.Float32s = append(to.Float32s, math.Float32frombits(binary.LittleEndian.Uint32(data)))
	case table.Float:
		to.Floats = append(to.Floats, math.Float64frombits(binary.LittleEndian.Uint64(data)))
	case table.Bool:
		to.AppendBool(data[0] != 0)
	case table.Int:
		to.AppendInt(integer(o.Type, data))
	default:
		memory = list(memory[:0], &o.Tensor, data, o.width)
		to.AppendText(memory)
	}
	return memory, nil
}

// list appends a row as JSON.
func list(b []byte, o *Tensor, data []byte, width int) []byte {
	size := o.Type.Size()
	if len(o.Shape) > 1 {
		b = append(b, '[')
	}
	for i := range width {
		if i > 0 {
			b = append(b, ',')
		}
		b = element(b, o.Type, data[i*size:])
	}
	if len(o.Shape) > 1 {
		b = append(b, ']')
	}
	return b
}

func element(b []byte, t ingest.Type, data []byte) []byte {
	switch t {
	case "FP32":
		return float(b, float64(math.Float32frombits(binary.LittleEndian.Uint32(data))), 32)
	case "FP64":
		return float(b, math.Float64frombits(binary.LittleEndian.Uint64(data)), 64)
	case "BOOL":
		return strconv.AppendBool(b, data[0] != 0)
	case "UINT64":
		return strconv.AppendUint(b, binary.LittleEndian.Uint64(data), 10)
	}
	return strconv.AppendInt(b, integer(t, data), 10)
}

// float appends a number; what JSON has no number for is null.
func float(b []byte, x float64, bits int) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, x, 'g', -1, bits)
}

func integer(t ingest.Type, data []byte) int64 {
	switch t {
	case "INT8":
		return int64(int8(data[0]))
	case "UINT8":
		return int64(data[0])
	case "INT16":
		return int64(int16(binary.LittleEndian.Uint16(data)))
	case "UINT16":
		return int64(binary.LittleEndian.Uint16(data))
	case "INT32":
		return int64(int32(binary.LittleEndian.Uint32(data)))
	case "UINT32":
		return int64(binary.LittleEndian.Uint32(data))
	}
	return int64(binary.LittleEndian.Uint64(data))
}

// texts appends row n of an output of texts, each of which is behind its length.
func (o *output) texts(to *table.Column, n int) error {
	begin := 0
	if n > 0 {
		begin = o.ends[n-1]
	}
	all := make([]string, 0, o.width)
	for data := o.Data[begin:o.ends[n]]; len(data) > 0; {
		end := 4 + int(binary.LittleEndian.Uint32(data))
		all = append(all, string(data[4:end]))
		data = data[end:]
	}
	if to.Type == table.String {
		to.AppendString(all[0])
		return nil
	}
	b, err := json.Marshal(all)
	if err == nil {
		to.AppendText(b)
	}
	return err
}
