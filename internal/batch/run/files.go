package run

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// files makes the results in the formats that the parts are not: the parts are JSON Lines
// then, of which all others are made. What a format cannot hold is its failure, and no
// other's.
func (t *turn) files(ctx context.Context, b *job.Batch) (files []job.File, err error) {
	for _, f := range b.Output.Formats {
		if string(f) == string(b.Output.Format) {
			continue
		}
		o, err := t.file(ctx, b, f)
		made := job.File{Format: f, Object: o}
		if err != nil && fault.Of(err).Kind != fault.Unprocessable {
			t.dropFiles(ctx, files)
			return nil, err
		}
		if err != nil {
			made.Failure = &job.Failure{Code: fault.CodeOf(err), Message: fault.Of(err).Text()}
		}
		files = append(files, made)
	}
	return files, nil
}

func (t *turn) dropFiles(ctx context.Context, files []job.File) {
	for i := range files {
		t.drop(ctx, files[i].Object)
	}
}

// file writes one, straight into its object.
func (t *turn) file(ctx context.Context, b *job.Batch, f encode.Format) (job.Object, error) {
	o := job.Object{Key: job.Key(b.Tenant, b.ID)}
	options := encode.Options{Format: f, About: [][2]string{{"batch", string(b.ID)}, {"model", b.Model}, {"version", b.ModelVersion}, {"created_at", b.CreatedAt.UTC().Format(time.RFC3339)}}}
	r, w := blob.Pipe()
	defer w.CloseWithError(io.ErrUnexpectedEOF) //nolint:errcheck // it never fails; also where encoding panics
	var info blob.Info
	put := make(chan error, 1)
	go func() { // what computes stays on the thread of low priority
		var err error
		info, err = t.bucket.Put(ctx, o.Key, r, blob.PutOptions{UploadOptions: blob.UploadOptions{ContentType: options.MediaType()}})
		_ = r.CloseWithError(errors.Join(errPut, err)) // who writes on must not wait for ever
		put <- err
	}()
	sum := sha256.New()
	encoded := t.encode(ctx, io.MultiWriter(w, sum), b, options, &o)
	_ = w.CloseWithError(encoded) // never fails
	err := <-put
	if encoded != nil && !errors.Is(encoded, errPut) {
		err = encoded
	}
	if err != nil {
		return job.Object{}, err
	}
	o.Bytes, o.SHA256 = info.Size, hex.EncodeToString(sum.Sum(nil))
	return o, nil
}

// errPut says that nobody takes the bytes any more.
var errPut = errors.New("the object has ended")

// encode writes the rows of all parts, and counts them.
func (t *turn) encode(ctx context.Context, out io.Writer, b *job.Batch, options encode.Options, o *job.Object) error {
	w, err := encode.New(out, b.Output.Columns, options)
	if err != nil {
		return err
	}
	lines, c := newResultLines(b.Output.Columns), table.NewChunk(b.Output.Columns)
	for i := range b.Chunks {
		part := b.Chunks[i].Result
		if part.Key == "" {
			continue
		}
		text, err := t.load(ctx, part)
		if err != nil {
			return err
		}
		if err := lines.read(c, text); err != nil {
			return err
		}
		if err := w.Write(c); err != nil {
			return err
		}
		o.Rows += int64(c.Rows())
		t.yield() // who has the turn waits for this
	}
	return w.Close()
}

// resultLines reads JSON Lines of results back into a table.
type resultLines struct {
	schema table.Schema
	split  *ingest.Lines
}

func newResultLines(s table.Schema) *resultLines {
	names := make([]string, len(s))
	for i := range s {
		names[i] = s[i].Name
	}
	return &resultLines{s, ingest.NewLines(names)}
}

// read fills the chunk with the rows of a part.
func (l *resultLines) read(c *table.Chunk, text []byte) error {
	c.Reset()
	for line := range bytes.Lines(text) {
		cells, err := l.split.Cells(line)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "a part of the results cannot be read")
		}
		for i, cell := range cells {
			if err := put(c.Column(i), cell); err != nil {
				return fault.Wrap(fault.Internal, err, "the column %q of a part of the results cannot be read", l.schema[i].Name)
			}
		}
	}
	return nil
}

// put adds a JSON value to a column.
func put(to *table.Column, cell []byte) (err error) {
	if cell == nil || string(cell) == "null" {
		to.AppendNull()
		return nil
	}
	var text string
	if cell[0] == '"' && to.Type != table.JSON {
		if err := json.Unmarshal(cell, &text); err != nil {
			return err
		}
	}
	switch to.Type {
	case table.JSON:
		to.AppendText(cell)
	case table.String:
		to.AppendString(text)
	case table.Bool:
		to.AppendBool(cell[0] == 't')
	case table.Float, table.Float32:
		if text == "" {
			text = string(cell)
		}
		bits := 64
		if to.Type == table.Float32 {
			bits = 32
		}
		var x float64
		if x, err = strconv.ParseFloat(text, bits); err == nil { // also NaN, and what is infinite
			to.AppendFloat(x)
		}
	default:
		var n int64
		if n, err = strconv.ParseInt(string(cell), 10, 64); err == nil {
			to.AppendInt(n)
		}
	}
	return err
}
