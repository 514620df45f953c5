package evaluations

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"

	"sluice/internal/batch/api"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/upload"
)

// files are uploads as cases, in the formats that batches read.
type files struct {
	uploads *upload.Service // nil where this process takes none
	bucket  blob.Bucket
	options ingest.Options
	turns   *api.Turns // of looking at them
}

// form says how a file is read.
type form struct {
	File   ingest.File `json:"file"`
	Spec   ingest.Spec `json:"spec"`
	Inputs []run.Port  `json:"inputs"`
	ETag   string      `json:"etag"`
}

// Take implements evaluation.Files.
func (f files) Take(ctx context.Context, tenant string, id evaluation.ID, in evaluation.Upload, v *evaluation.Served) (*evaluation.File, error) {
	if f.uploads == nil {
		return nil, fault.New(fault.Unavailable, "this process takes no uploads")
	}
	ports, err := portsOf(v)
	if err != nil {
		return nil, err
	}
	u, _, err := f.uploads.Content(ctx, upload.ID(in.ID))
	if err != nil {
		return nil, err
	}
	how, err := f.inspect(ctx, in, ports, run.Source(f.bucket, job.Object{Key: u.Object}))
	if err != nil {
		return nil, err
	}
	key := tenant + "/" + evaluation.Folder + "/" + string(id) + "/" + repo.RandomName()
	copied, err := f.bucket.Copy(ctx, u.Object, key, u.SHA256)
	if err != nil {
		return nil, err
	}
	how.ETag = copied.ETag
	text, err := json.Marshal(how)
	return &evaluation.File{Upload: in.ID, Object: key, Bytes: u.Length, SHA256: u.SHA256, Form: text, Columns: in.Segments}, err
}

// inspect finds out how a file is read, and tries its first rows.
func (f files) inspect(ctx context.Context, in evaluation.Upload, ports []run.Port, src ingest.Source) (how form, err error) {
	done, err := f.turns.Take(ctx)
	if err != nil {
		return how, err
	}
	defer done()
	asked := &api.NewBatch{RowID: in.RowID, Columns: in.Columns, Output: &api.NewBatchOutput{IncludeInput: in.Segments}}
	how = form{File: ingest.File{Format: ingest.Format(in.Format)}, Spec: ingest.Spec{ID: in.RowID, Keep: in.Segments}, Inputs: ports}
	named := how.Spec
	for _, p := range ports {
		if columns := in.Columns[p.Name]; len(columns) > 0 {
			named.Inputs = append(named.Inputs, ingest.Input{Name: p.Name, Columns: columns})
		}
	}
	if how.File, err = ingest.Inspect(ctx, src, how.File, &named, f.options); err != nil {
		return how, err
	}
	if how.Spec.Inputs, err = api.Inputs(&how.File, asked, &run.Model{Inputs: ports}); err != nil {
		return how, err
	}
	if how.File.Format != ingest.JSONL { // of the columns that are there by default
		if how.File, err = ingest.Inspect(ctx, src, how.File, &how.Spec, f.options); err != nil {
			return how, err
		}
	}
	r, err := ingest.Open(ctx, src, how.File, &how.Spec, how.File.First, f.options)
	if err != nil {
		return how, err
	}
	var c ingest.Chunk
	err = errors.Join(r.Read(&c, ingest.Limit{Rows: 100, Bytes: 1 << 20}), r.Close())
	if errors.Is(err, io.EOF) || err == nil && len(c.Good) == 0 {
		return how, api.Refused(c.Rows, c.Errors)
	}
	return how, err
}

// portsOf are a version's inputs as rows of a file.
func portsOf(v *evaluation.Served) (ports []run.Port, err error) {
	for _, p := range v.Inputs {
		t := ingest.Type(p.Datatype.String())
		if !v.Rows || !t.Readable() || slices.ContainsFunc(p.Shape[1:], func(n int64) bool { return n <= 0 }) {
			return nil, fault.New(fault.Unprocessable, "the input %q cannot be read from rows of a file, one by one", p.Name).WithCode("model_not_batchable")
		}
		ports = append(ports, run.Port{Name: p.Name, Type: t, Shape: slices.Clone([]int64(p.Shape[1:]))})
	}
	return ports, nil
}

// Open implements evaluation.Files.
func (f files) Open(_ context.Context, file *evaluation.File) (evaluation.Cases, error) {
	r := &rows{files: f}
	if err := json.Unmarshal(file.Form, &r.form); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "how the file is read cannot be understood")
	}
	r.src = run.Source(f.bucket, job.Object{Key: file.Object, Bytes: file.Bytes, SHA256: file.SHA256, ETag: r.form.ETag})
	return r, nil
}

// rows goes through the rows of a file.
type rows struct {
	files
	form  form
	src   ingest.Source
	open  ingest.Reader // nil before the first
	chunk ingest.Chunk
}

// Close implements evaluation.Cases.
func (r *rows) Close() error {
	if r.open == nil {
		return nil
	}
	err := r.open.Close()
	r.open = nil
	return err
}

// Read implements evaluation.Cases. What it returns is valid until it is called again.
func (r *rows) Read(ctx context.Context, after string, most int, bytes int64) (cases []evaluation.Case, next string, err error) {
	at := r.form.File.First
	if after != "" {
		if err := json.Unmarshal([]byte(after), &at); err != nil {
			return nil, "", fault.Wrap(fault.Internal, err, "the place in the file cannot be understood")
		}
	}
	if r.open == nil || r.open.Position() != at {
		if err := r.Close(); err != nil {
			return nil, "", err
		}
		if r.open, err = ingest.Open(ctx, r.src, r.form.File, &r.form.Spec, at, r.options); err != nil {
			r.open = nil
			return nil, "", err
		}
	}
	if err := r.open.Read(&r.chunk, ingest.Limit{Rows: most, Bytes: bytes}); errors.Is(err, io.EOF) {
		return nil, "", nil
	} else if err != nil {
		return nil, "", err
	}
	place, err := json.Marshal(r.open.Position())
	return r.cases(at.Row), string(place), err
}

// cases are the chunk's rows, of which the first has a number in the file.
func (r *rows) cases(first int64) []evaluation.Case {
	c := &r.chunk
	out := make([]evaluation.Case, c.Rows)
	for i := range out {
		out[i] = evaluation.Case{Name: strconv.FormatInt(first+int64(i)+1, 10), Rows: 1, Values: map[string]string{}, Skip: evaluation.BadRow}
		if c.IDs.Len() > i && !c.IDs.Null(i) {
			out[i].Name = string(c.IDs.Text(i))
		}
		for k, name := range r.form.Spec.Keep {
			if !c.Kept[k].Null(i) {
				out[i].Values[name] = string(c.Kept[k].Text(i))
			}
		}
	}
	for n, row := range c.Good {
		out[row].Skip = ""
		for k, p := range r.form.Inputs {
			t, _ := tensor.Parse(string(p.Type)) // it was checked
			out[row].Inputs = append(out[row].Inputs, tensor.Tensor{Name: p.Name, Datatype: t, Shape: append(tensor.Shape{1}, p.Shape...), Data: c.Tensors[k].Slice(n, n+1)})
		}
	}
	return out
}
