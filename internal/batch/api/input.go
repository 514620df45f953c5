package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/upload"
)

// NewBatchInput is the rows of a batch: a file, or they themselves.
type NewBatchInput struct {
	UploadID string            `json:"upload_id,omitempty" maxLength:"64" doc:"A completed upload: the file. The batch keeps its own copy."`
	Inline   []json.RawMessage `json:"inline,omitempty" maxItems:"100000" doc:"The rows themselves, instead of a file: objects with the columns, as lines of JSON Lines are. Lines in errors are their places, from 1."`
}

// rows are what a batch is made of, before it has them.
type rows struct {
	tenant string
	source ingest.Source
	bytes  int64
	sha256 string
	keep   func(ctx context.Context, key string) (blob.Info, error) // under a key of the batch's own
}

// rowsOf returns the rows that a request has, or the file that it names.
func (a *API) rowsOf(ctx context.Context, in *NewBatch) (*rows, error) {
	switch {
	case (in.Input.UploadID == "") == (len(in.Input.Inline) == 0):
		return nil, fault.New(fault.Unprocessable, "input has neither upload_id nor inline, or both: upload a file and name it, or send the rows").WithCode("input_invalid")
	case in.Input.UploadID != "":
		return a.uploaded(ctx, upload.ID(in.Input.UploadID))
	case in.Format != "" && in.Format != string(ingest.JSONL), in.Encoding != "" && in.Encoding != "utf-8", in.Sheet != "", in.CSV != nil:
		return nil, fault.New(fault.Unprocessable, "rows that are inline are JSON Lines in UTF-8: leave format, encoding, sheet and csv out").WithCode("input_invalid")
	}
	in.Format = string(ingest.JSONL)
	p, _ := access.From(ctx)
	var text bytes.Buffer
	for _, row := range in.Input.Inline {
		if err := json.Compact(&text, row); err != nil { // it came with a request that was read
			return nil, fault.Wrap(fault.Unprocessable, err, "a row is no JSON").WithCode("input_invalid")
		}
		text.WriteByte('\n')
	}
	sum := sha256.Sum256(text.Bytes())
	r := &rows{tenant: p.Tenant, source: inline(text.Bytes()), bytes: int64(text.Len()), sha256: hex.EncodeToString(sum[:])}
	r.keep = func(ctx context.Context, key string) (blob.Info, error) {
		return a.bucket.Put(ctx, key, bytes.NewReader(text.Bytes()), blob.PutOptions{UploadOptions: blob.UploadOptions{ContentType: "application/jsonl"}})
	}
	return r, nil
}

// uploaded are those of a file.
func (a *API) uploaded(ctx context.Context, id upload.ID) (*rows, error) {
	u, _, err := a.uploads.Content(ctx, id)
	if err != nil {
		return nil, err
	}
	return &rows{u.Tenant, run.Source(a.bucket, job.Object{Key: u.Object}), u.Length, u.SHA256, func(ctx context.Context, key string) (blob.Info, error) {
		return a.bucket.Copy(ctx, u.Object, key, u.SHA256)
	}}, nil
}

// inline is a file in memory.
type inline []byte

// Open implements ingest.Source.
func (i inline) Open(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(i[min(offset, int64(len(i))):])), nil
}
