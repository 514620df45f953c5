package api

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/download"
)

// results are the parts of a batch's results that can be read: all of one that has
// ended, otherwise those before the first that is missing.
func results(b *job.Batch) []job.Object {
	var parts []job.Object
	for i := range b.Chunks {
		o := b.Chunks[i].Result
		if o.Key == "" && !b.Status.Final() {
			break
		}
		if o.Key != "" {
			parts = append(parts, o)
		}
	}
	return parts
}

// size is how many bytes the results have.
func size(b *job.Batch, parts []job.Object) int64 {
	n := int64(len(b.Output.Head))
	for _, p := range parts {
		n += p.Bytes
	}
	return n
}

// resultsIn asks for results.
type resultsIn struct {
	ID     string `path:"id" maxLength:"64"`
	Format string `query:"format" enum:"csv,jsonl,parquet,xlsx"`
}

// results sends a batch's results.
func (a *API) results(ctx context.Context, w http.ResponseWriter, r *http.Request, in *resultsIn) error {
	b, err := a.usable(ctx, job.ID(in.ID))
	if err != nil {
		return err
	}
	c, err := a.content(b, encode.Format(in.Format))
	if err != nil {
		return err
	}
	return download.Serve(w, r, c)
}

// usable finds a batch whose results have not expired.
func (a *API) usable(ctx context.Context, id job.ID) (*job.Batch, error) {
	b, err := cqrs.Ask(ctx, a.bus, job.Find{ID: id})
	if err != nil {
		return nil, err
	}
	return b, b.Usable(a.store.Now())
}

// content is what a batch has in a format; empty: the first that was asked for.
func (a *API) content(b *job.Batch, f encode.Format) (download.Content, error) {
	parts := encode.Format(b.Output.Format)
	if f == "" && len(b.Output.Formats) > 0 {
		f = b.Output.Formats[0]
	}
	if f != "" && f != parts {
		return a.file(b, f)
	}
	all := results(b)
	if len(all) == 0 && !b.Status.Final() {
		return download.Content{}, fault.New(fault.Conflict, "no rows from the first on have been run yet").WithCode("batch_no_results")
	}
	c := named(b, parts)
	c.Size, c.Open = size(b, all), a.joined(b.Output.Head, all)
	if b.Status.Final() && b.Results != nil {
		c.SHA256 = b.Results.SHA256
	}
	return c, nil
}

// named is content of a format that has no bytes yet.
func named(b *job.Batch, f encode.Format) download.Content {
	return download.Content{Type: encode.Options{Format: f}.MediaType(), FileName: string(b.ID) + "." + string(f)}
}

// file is what was made of the parts.
func (a *API) file(b *job.Batch, f encode.Format) (download.Content, error) {
	for i := range b.Files {
		made := &b.Files[i]
		switch {
		case made.Format != f:
			continue
		case made.Failure != nil:
			return download.Content{}, fault.New(fault.Conflict, "the results do not fit %s: %s", f, made.Failure.Message).WithCode("batch_no_results")
		}
		c := named(b, f)
		c.Size, c.SHA256, c.Open = made.Object.Bytes, made.Object.SHA256, a.joined("", []job.Object{made.Object})
		return c, nil
	}
	if slices.Contains(b.Output.Formats, f) {
		return download.Content{}, fault.New(fault.Conflict, "the results are made as %s when the batch ends; what is done can be read as %s", f, b.Output.Format).WithCode("batch_no_results")
	}
	return download.Content{}, fault.New(fault.NotFound, "the batch was not made with the format %s", f).WithCode("batch_format_unknown")
}

// files shows the formats of a batch that has ended.
func (r *BatchResults) files(b *job.Batch, self string) {
	for _, f := range b.Output.Formats {
		shown := BatchFile{Format: string(f), URL: self + "/results?format=" + string(f), Bytes: r.Bytes, Rows: r.Rows, SHA256: b.Results.SHA256}
		for _, made := range b.Files {
			if made.Format != f {
				continue
			}
			shown.Bytes, shown.Rows, shown.SHA256 = made.Object.Bytes, made.Object.Rows, made.Object.SHA256
			if e := made.Failure; e != nil {
				shown.Error = &BatchFailure{e.Code, e.Message, e.Retryable}
			}
		}
		r.Files = append(r.Files, shown)
	}
	if len(r.Files) > 0 { // what url has
		r.Bytes, r.Rows, r.SHA256 = r.Files[0].Bytes, r.Files[0].Rows, r.Files[0].SHA256
	}
}

// errors sends the errors of a batch's rows.
func (a *API) errors(ctx context.Context, w http.ResponseWriter, r *http.Request, in *idIn) error {
	b, err := a.usable(ctx, job.ID(in.ID))
	if err != nil {
		return err
	}
	var parts []job.Object
	n := int64(0)
	for i := range b.Chunks {
		if o := b.Chunks[i].Errors; o.Key != "" {
			parts = append(parts, o)
			n += o.Bytes
		}
	}
	return download.Serve(w, r, download.Content{Type: "application/jsonl", FileName: string(b.ID) + "-errors.jsonl", Size: n, Open: a.joined("", parts)})
}

// joined opens a text and the objects behind it as one.
func (a *API) joined(head string, parts []job.Object) func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	pieces := make([]blob.Piece, len(parts))
	for i, o := range parts {
		pieces[i] = blob.Piece{Key: o.Key, Bytes: o.Bytes, SHA256: o.SHA256}
	}
	return func(ctx context.Context, offset, _ int64) (io.ReadCloser, error) {
		before := min(offset, int64(len(head)))
		behind := blob.Join(ctx, a.bucket, pieces, offset-before)
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(head[before:]), behind), behind}, nil
	}
}
