package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
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
	add := func(prefix, name string, t table.Type) {
		if taken[name] {
			name = prefix + name
		}
		taken[name] = true
		s = append(s, table.Field{Name: name, Type: t})
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
		add("output.", o.Name, cellType(o))
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
	if elements(o.Shape) != 1 {
		return table.JSON
	}
	switch o.Type {
	case "FP32":
		return table.Float32
	case "FP64":
		return table.Float
	case "BOOL":
		return table.Bool
	case ingest.Bytes:
		return table.String
	case "UINT64":
		return table.JSON // larger than any column of integers
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

// results encodes what became of the rows, without the head.
func (p *pass) results() ([]byte, error) {
	s := Schema(p.batch, &p.model)
	c := table.NewChunk(s)
	if err := p.fill(c); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := write(&b, p.batch.Output.Format, s, c); err != nil {
		return nil, err
	}
	return bytes.TrimPrefix(b.Bytes(), []byte(p.batch.Output.Head)), nil
}

// fill puts the rows into a table.
func (p *pass) fill(c *table.Chunk) error {
	bad, good := p.failed, p.parts
	at := 0 // the row of the first of good
	for row := range p.chunk.Rows {
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
			if len(good) == 0 {
				return fault.New(fault.Internal, "row %d has neither an answer nor an error", index)
			}
			next().AppendString("succeeded")
			for j := range good[0].outputs {
				if err := cell(next(), &good[0].outputs[j], at); err != nil {
					return err
				}
			}
			if at++; at == good[0].last-good[0].first {
				good, at = good[1:], 0
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

// cell appends row n of an output.
func cell(to *table.Column, o *Tensor, n int) error {
	width := 1
	for _, extent := range o.Shape[1:] {
		width *= int(extent)
	}
	size := o.Type.Size()
	if o.Type == ingest.Bytes {
		return texts(to, o, n, width)
	}
	if size == 0 || len(o.Data) < (n+1)*width*size {
		return fault.New(fault.Internal, "the output %s is of the type %s, which results cannot have", o.Name, o.Type).WithCode("output_type")
	}
	data := o.Data[n*width*size : (n+1)*width*size]
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
		to.AppendText(list(o, data, width))
	}
	return nil
}

// list is a row as JSON.
func list(o *Tensor, data []byte, width int) []byte {
	size := o.Type.Size()
	var b []byte
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

// texts appends row n of an output of texts. These have no fixed size: the rows before
// are passed over.
func texts(to *table.Column, o *Tensor, n, width int) error {
	data := o.Data
	take := func() ([]byte, bool) {
		if len(data) < 4 || uint64(len(data)-4) < uint64(binary.LittleEndian.Uint32(data)) {
			return nil, false
		}
		end := 4 + int(binary.LittleEndian.Uint32(data))
		one := data[4:end]
		data = data[end:]
		return one, true
	}
	for range n * width {
		if _, ok := take(); !ok {
			return fault.New(fault.Internal, "the output %s ends early", o.Name).WithCode("output_shape")
		}
	}
	all := make([]string, width)
	for i := range all {
		one, ok := take()
		if !ok {
			return fault.New(fault.Internal, "the output %s ends early", o.Name).WithCode("output_shape")
		}
		all[i] = string(one)
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
