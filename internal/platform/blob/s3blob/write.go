package s3blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"time"

	"github.com/minio/minio-go/v7"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Put implements blob.Writer. A body of up to a part is buffered and sent at
// once; a longer one goes as a multipart upload, whose end is the commit.
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) (blob.Info, error) {
	if err := checkKey(ctx, key); err != nil {
		return blob.Info{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Info{}, err
	}
	checked := blob.NewChecked(ctx, body, opts.PartOptions)
	var buf bytes.Buffer
	more, err := fill(&buf, checked, b.partSize, opts.Size)
	if err != nil {
		return blob.Info{}, err
	}
	if more {
		return b.putParts(ctx, key, &buf, checked, opts)
	}
	put := putOptions(opts.UploadOptions, opts.Condition, checked.SHA256())
	o, err := b.core.PutObject(ctx, b.bucket, b.name(key), bytes.NewReader(buf.Bytes()), int64(buf.Len()), "", checked.SHA256(), put)
	if err != nil {
		return blob.Info{}, translate(ctx, err, subject{key: key, cond: opts.Condition})
	}
	return written(key, o.ETag, checked, opts.UploadOptions), nil
}

// fill reads a body into the buffer, up to limit bytes, and reports whether
// there may be more. Of a body that has ended, the end is checked.
func fill(buf *bytes.Buffer, body *blob.Checked, limit, size int64) (more bool, err error) {
	if size > 0 {
		buf.Grow(int(min(size, limit)) + bytes.MinRead)
	}
	_, err = io.CopyN(buf, body, limit)
	if err == nil && size > 0 && body.Size() >= size {
		_, err = io.CopyN(buf, body, 1) // there is none; the body must know
	}
	if err == io.EOF { //nolint:errorlint // only the plain EOF is the body's end
		return false, nil
	}
	return err == nil, err
}

func putOptions(opts blob.UploadOptions, cond blob.Condition, digest string) minio.PutObjectOptions {
	put := minio.PutObjectOptions{ContentType: opts.ContentType, UserMetadata: metadata(opts, digest)}
	condition(&put, cond)
	return put
}

func condition(put *minio.PutObjectOptions, cond blob.Condition) {
	if cond.IfAbsent {
		put.SetMatchETagExcept("*")
	}
	if cond.IfMatch != "" {
		put.SetMatchETag(cond.IfMatch)
	}
}

// written describes what was put. The server's own time comes with Stat.
func written(key, etag string, body *blob.Checked, opts blob.UploadOptions) blob.Info {
	info := infoOf(key, minio.ObjectInfo{
		Size: body.Size(), ETag: etag, ContentType: opts.ContentType, LastModified: time.Now().UTC().Truncate(time.Second), UserMetadata: opts.Metadata,
	})
	if info.ContentType == "" {
		info.ContentType = blob.DefaultContentType
	}
	info.SHA256 = body.SHA256()
	return info
}

// putParts sends a body of which the first part is in the buffer.
func (b *Bucket) putParts(ctx context.Context, key string, buf *bytes.Buffer, body *blob.Checked, opts blob.PutOptions) (info blob.Info, err error) {
	id, err := b.core.NewMultipartUpload(ctx, b.bucket, b.name(key), putOptions(opts.UploadOptions, blob.Condition{}, opts.SHA256))
	if err != nil {
		return blob.Info{}, translate(ctx, err, subject{key: key})
	}
	about := subject{key: key, cond: opts.Condition, upload: blob.Upload{Key: key, ID: id}}
	defer func() {
		if err != nil {
			b.abandon(ctx, about.upload)
		}
	}()
	var done []minio.CompletePart
	for more := true; more || buf.Len() > 0; {
		sum := sha256.Sum256(buf.Bytes())
		part, err := b.core.PutObjectPart(ctx, b.bucket, b.name(key), id, len(done)+1, bytes.NewReader(buf.Bytes()), int64(buf.Len()),
			minio.PutObjectPartOptions{Sha256Hex: hex.EncodeToString(sum[:])})
		if err != nil {
			return blob.Info{}, translate(ctx, err, about)
		}
		done = append(done, minio.CompletePart{PartNumber: part.PartNumber, ETag: part.ETag})
		buf.Reset()
		if !more {
			break
		}
		if more, err = fill(buf, body, b.partSize, opts.Size); err != nil {
			return blob.Info{}, err
		}
		if more && len(done) == blob.MaxPart {
			return blob.Info{}, fault.New(fault.TooLarge, "the object %q has more than %d parts of %d bytes: raise the part size", key, blob.MaxPart, b.partSize)
		}
	}
	var commit minio.PutObjectOptions
	condition(&commit, opts.Condition)
	o, err := b.core.CompleteMultipartUpload(ctx, b.bucket, b.name(key), id, done, commit)
	if err != nil {
		return blob.Info{}, translate(ctx, err, about)
	}
	return written(key, o.ETag, body, opts.UploadOptions), nil
}

// abandon aborts an upload that has failed, even if because its context ended.
// What it cannot abort is left to blob.Sweep.
func (b *Bucket) abandon(ctx context.Context, up blob.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = b.core.AbortMultipartUpload(ctx, b.bucket, b.name(up.Key), up.ID)
}
