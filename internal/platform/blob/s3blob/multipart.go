package s3blob

import (
	"bytes"
	"context"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Begin implements blob.Multipart.
func (b *Bucket) Begin(ctx context.Context, key string, opts blob.UploadOptions) (blob.Upload, error) {
	if err := checkKey(ctx, key); err != nil {
		return blob.Upload{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Upload{}, err
	}
	id, err := b.core.NewMultipartUpload(ctx, b.bucket, b.name(key), putOptions(opts, blob.Condition{}, ""))
	if err != nil {
		return blob.Upload{}, translate(ctx, err, subject{key: key})
	}
	return blob.Upload{Key: key, ID: id, Started: time.Now().UTC()}, nil
}

// Part implements blob.Multipart. A part larger than the buffer must say its
// size: it is streamed, and not tried again when the server fails.
func (b *Bucket) Part(ctx context.Context, up blob.Upload, number int, body io.Reader, opts blob.PartOptions) (blob.Part, error) {
	if err := checkUpload(ctx, up); err != nil {
		return blob.Part{}, err
	}
	if err := blob.CheckPart(number); err != nil {
		return blob.Part{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Part{}, err
	}
	checked := blob.NewChecked(ctx, body, opts)
	var buf bytes.Buffer
	more, err := fill(&buf, checked, b.partSize, opts.Size)
	if err != nil {
		return blob.Part{}, err
	}
	var content io.Reader = bytes.NewReader(buf.Bytes())
	size, digest := int64(buf.Len()), checked.SHA256()
	if more {
		if opts.Size == 0 {
			return blob.Part{}, fault.New(fault.Invalid, "part %d is larger than %d bytes: say its size, or send smaller parts", number, b.partSize).
				WithCode(blob.CodePart)
		}
		rest := opts.Size - size - 1
		content, size, digest = io.MultiReader(content, io.LimitReader(checked, rest), &lastByte{checked: checked}), opts.Size, opts.SHA256
	}
	p, err := b.core.PutObjectPart(ctx, b.bucket, b.name(up.Key), up.ID, number, content, size, minio.PutObjectPartOptions{Sha256Hex: digest})
	if err != nil {
		return blob.Part{}, translate(ctx, err, subject{key: up.Key, upload: up})
	}
	return blob.Part{Number: number, Size: size, ETag: p.ETag}, nil
}

// lastByte keeps the end of a streamed body back until the body was checked:
// the server has then never seen the whole of a wrong one.
type lastByte struct {
	checked *blob.Checked
	rest    io.Reader
}

// Read implements io.Reader.
func (l *lastByte) Read(p []byte) (int, error) {
	if l.rest == nil {
		end, err := io.ReadAll(l.checked)
		if err != nil {
			return 0, err
		}
		l.rest = bytes.NewReader(end)
	}
	return l.rest.Read(p)
}

// checkUpload refuses what cannot be an upload.
func checkUpload(ctx context.Context, up blob.Upload) error {
	if err := checkKey(ctx, up.Key); err != nil {
		return err
	}
	if up.ID == "" || strings.Contains(up.ID, "..") { // servers take the latter for an attack
		return blob.NoUpload(up)
	}
	return nil
}

// Complete implements blob.Multipart.
func (b *Bucket) Complete(ctx context.Context, up blob.Upload, parts []blob.Part, cond blob.Condition) (blob.Info, error) {
	if err := checkUpload(ctx, up); err != nil {
		return blob.Info{}, err
	}
	if err := cond.Check(); err != nil {
		return blob.Info{}, err
	}
	parts, err := blob.CommitOrder(parts)
	if err != nil {
		return blob.Info{}, err
	}
	done := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		done[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag}
	}
	var commit minio.PutObjectOptions
	condition(&commit, cond)
	about := subject{key: up.Key, cond: cond, upload: up}
	if _, err := b.core.CompleteMultipartUpload(ctx, b.bucket, b.name(up.Key), up.ID, done, commit); err != nil {
		return blob.Info{}, translate(ctx, err, about)
	}
	return b.Stat(ctx, up.Key)
}

// Abort implements blob.Multipart.
func (b *Bucket) Abort(ctx context.Context, up blob.Upload) error {
	if err := checkUpload(ctx, up); err != nil {
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	}
	err := b.core.AbortMultipartUpload(ctx, b.bucket, b.name(up.Key), up.ID)
	if isCode(err, "NoSuchUpload") {
		return nil
	}
	return translate(ctx, err, subject{key: up.Key, upload: up})
}

// Uploads implements blob.UploadLister. It asks for all uploads of the bucket:
// MinIO takes a prefix for the name of an object.
func (b *Bucket) Uploads(ctx context.Context, folder string) iter.Seq2[blob.Upload, error] {
	return func(yield func(blob.Upload, error) bool) {
		if err := blob.CheckFolder(folder); err != nil {
			yield(blob.Upload{}, err)
			return
		}
		below := b.folder(folder)
		for key, id := "", ""; ; {
			page, err := b.core.ListMultipartUploads(ctx, b.bucket, "", key, id, "", 1000)
			if err != nil {
				yield(blob.Upload{}, translate(ctx, err, subject{}))
				return
			}
			for _, u := range page.Uploads {
				if len(u.Key) <= len(below) || u.Key[:len(below)] != below {
					continue
				}
				if !yield(blob.Upload{Key: u.Key[len(b.prefix):], ID: u.UploadID, Started: u.Initiated}, nil) {
					return
				}
			}
			if !page.IsTruncated {
				return
			}
			key, id = page.NextKeyMarker, page.NextUploadIDMarker
		}
	}
}

// Parts implements blob.UploadLister.
func (b *Bucket) Parts(ctx context.Context, up blob.Upload) iter.Seq2[blob.Part, error] {
	return func(yield func(blob.Part, error) bool) {
		if err := checkUpload(ctx, up); err != nil {
			yield(blob.Part{}, err)
			return
		}
		for after := 0; ; {
			page, err := b.core.ListObjectParts(ctx, b.bucket, b.name(up.Key), up.ID, after, 1000)
			if err != nil {
				yield(blob.Part{}, translate(ctx, err, subject{key: up.Key, upload: up}))
				return
			}
			for _, p := range page.ObjectParts {
				if !yield(blob.Part{Number: p.PartNumber, Size: p.Size, ETag: trimQuotes(p.ETag)}, nil) {
					return
				}
			}
			if !page.IsTruncated {
				return
			}
			after = page.NextPartNumberMarker
		}
	}
}

func trimQuotes(etag string) string {
	if len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"' {
		return etag[1 : len(etag)-1]
	}
	return etag
}
