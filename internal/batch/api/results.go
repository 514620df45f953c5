package api

import (
	"context"
	"io"
	"net/http"
	"strings"

	"sluice/internal/batch/ingest"
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

// results sends a batch's results.
func (a *API) results(ctx context.Context, w http.ResponseWriter, r *http.Request, in *idIn) error {
	b, err := cqrs.Ask(ctx, a.bus, job.Find{ID: job.ID(in.ID)})
	if err != nil {
		return err
	}
	parts := results(b)
	if len(parts) == 0 && !b.Status.Final() {
		return fault.New(fault.Conflict, "no rows from the first on have been run yet").WithCode("batch_no_results")
	}
	c := download.Content{Type: "application/jsonl", FileName: string(b.ID) + ".jsonl", Size: size(b, parts), Open: a.joined(b.Output.Head, parts)}
	if b.Output.Format == ingest.CSV {
		c.Type, c.FileName = "text/csv; charset=utf-8; header=present", string(b.ID)+".csv"
	}
	if b.Status.Final() && b.Results != nil {
		c.SHA256 = b.Results.SHA256
	}
	return download.Serve(w, r, c)
}

// errors sends the errors of a batch's rows.
func (a *API) errors(ctx context.Context, w http.ResponseWriter, r *http.Request, in *idIn) error {
	b, err := cqrs.Ask(ctx, a.bus, job.Find{ID: job.ID(in.ID)})
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
	return func(ctx context.Context, offset, _ int64) (io.ReadCloser, error) {
		j := &joined{ctx: ctx, bucket: a.bucket, parts: parts, now: io.NopCloser(strings.NewReader(head[min(offset, int64(len(head))):]))}
		for offset = max(0, offset-int64(len(head))); len(j.parts) > 0 && offset >= j.parts[0].Bytes; j.parts = j.parts[1:] {
			offset -= j.parts[0].Bytes
		}
		j.offset = offset
		return j, nil
	}
}

// joined reads objects one after the other.
type joined struct {
	ctx    context.Context //nolint:containedctx // it is the request's, as its body is
	bucket blob.Reader
	parts  []job.Object
	offset int64 // in the first
	now    io.ReadCloser
}

// Read implements io.Reader.
func (j *joined) Read(p []byte) (int, error) {
	for {
		n, err := j.now.Read(p)
		if n > 0 || err == nil || err != io.EOF {
			if n > 0 && err == io.EOF {
				err = nil
			}
			return n, err
		}
		if len(j.parts) == 0 {
			return 0, io.EOF
		}
		if err := j.next(); err != nil {
			return 0, err
		}
	}
}

func (j *joined) next() error {
	_ = j.now.Close()
	j.now = io.NopCloser(strings.NewReader(""))
	part := j.parts[0]
	o, err := j.bucket.Get(j.ctx, part.Key, blob.GetOptions{Range: blob.Range{Offset: j.offset}})
	if err != nil {
		return err
	}
	o.Info.SHA256 = part.SHA256 // the store's own may have rotted with the object
	j.now = struct {
		io.Reader
		io.Closer
	}{o.Verified(), o.Body}
	j.parts, j.offset = j.parts[1:], 0
	return nil
}

// Close implements io.Closer.
func (j *joined) Close() error { return j.now.Close() }
