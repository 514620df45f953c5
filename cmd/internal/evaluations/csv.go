package evaluations

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/table"
	"sluice/internal/inference/evaluation"
	"sluice/internal/platform/fault"
)

// chunkBytes is about how much of a table is held while it is written.
const chunkBytes = 256 << 10

// CSV implements evaluationhttp.CSV, as exports write it: a row for each line, with a column
// for each segment, and one for each output of both sides. An output of one element is that
// one, and one of several the JSON array of them.
func CSV(out io.Writer, x *evaluation.Evaluation, lines io.Reader) error {
	if d := &x.Done.Diff; d.Rows > 0 && len(d.Outputs) == 0 { // of before outputs were noted
		return fault.New(fault.Conflict, "the evaluation %s does not know which outputs its differences have: download them as JSON Lines, or evaluate again", x.ID).WithCode("evaluation_no_diff")
	}
	schema := columnsOf(x)
	w, err := encode.New(out, schema, encode.Options{Format: encode.CSV})
	if err != nil {
		return err
	}
	c, rows := table.NewChunk(schema), int64(0)
	for in := json.NewDecoder(lines); ; rows++ {
		var l line
		if err := in.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fault.Wrap(fault.Internal, err, "the differences of %s cannot be read", x.ID)
		}
		if err := l.row(x, c); err != nil {
			return err
		}
		if c.Bytes() >= chunkBytes {
			if err := w.Write(c); err != nil {
				return err
			}
			c.Reset()
		}
	}
	if rows != x.Done.Diff.Rows {
		return fault.New(fault.Internal, "the differences of %s have %d rows, and not %d", x.ID, rows, x.Done.Diff.Rows)
	}
	return errors.Join(w.Write(c), w.Close())
}

// columnsOf returns the columns of an evaluation's differences. Those that others have named
// have names which none of the rest has.
func columnsOf(x *evaluation.Evaluation) table.Schema {
	schema := table.Schema{{Name: "name", Type: table.String}, {Name: "row", Type: table.Int}, {Name: "at", Type: table.Time}}
	text := func(name string) { schema = append(schema, table.Field{Name: name, Type: table.String}) }
	for _, by := range x.Request.By {
		text("segment/" + by)
	}
	text("output")
	schema = append(schema, table.Field{Name: "distance", Type: table.Float})
	text("error_code")
	text("error_message")
	for _, output := range x.Done.Diff.Outputs {
		text("baseline/" + output)
		text("candidate/" + output)
	}
	return schema
}

// line is an evaluation.Line whose numbers are as they were written.
type line struct {
	evaluation.Line
	Baseline  map[string]json.RawMessage `json:"baseline"`
	Candidate map[string]json.RawMessage `json:"candidate"`
}

// row appends the line to a chunk, column by column as columnsOf has them.
func (l *line) row(x *evaluation.Evaluation, c *table.Chunk) error {
	at := -1
	next := func() *table.Column { at++; return c.Column(at) }
	text := func(s string) {
		if s == "" {
			next().AppendNull()
			return
		}
		next().AppendString(s)
	}
	text(l.Name)
	next().AppendInt(l.Row)
	if err := instant(next(), l.At); err != nil {
		return err
	}
	for _, by := range x.Request.By {
		next().AppendString(l.Segments[by])
	}
	text(l.Output)
	next().AppendFloat(l.Distance)
	failure := evaluation.Failure{}
	if l.Error != nil {
		failure = *l.Error
	}
	text(failure.Code)
	text(failure.Message)
	for _, output := range x.Done.Diff.Outputs {
		for _, side := range []map[string]json.RawMessage{l.Baseline, l.Candidate} {
			if err := elements(next(), side[output]); err != nil {
				return err
			}
		}
	}
	return nil
}

// instant appends a time; empty is none.
func instant(c *table.Column, text string) error {
	if text == "" {
		c.AppendNull()
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the time of a difference cannot be read")
	}
	c.AppendInt(at.UnixMicro())
	return nil
}

// elements appends those of an output, as a JSON array has them; nil is none.
func elements(c *table.Column, array json.RawMessage) error {
	if array == nil {
		c.AppendNull()
		return nil
	}
	var all []json.RawMessage
	if err := json.Unmarshal(array, &all); err != nil {
		return fault.Wrap(fault.Internal, err, "the answer of a difference cannot be read")
	}
	if len(all) != 1 {
		c.AppendText(array)
		return nil
	}
	if all[0][0] != '"' { // a number, or a truth value
		c.AppendText(all[0])
		return nil
	}
	var text string
	if err := json.Unmarshal(all[0], &text); err != nil {
		return fault.Wrap(fault.Internal, err, "the answer of a difference cannot be read")
	}
	c.AppendString(text)
	return nil
}
