// Package s3blob keeps objects in MinIO or any other store that speaks S3.
//
// It uses the plain protocol: no trailing checksums, which some servers refuse,
// and no MinIO extension. Requests are signed over the SHA-256 of their body, so
// that the server refuses what did not arrive whole; the digest of an object
// travels in its metadata.
//
// Known limits: the digest of an object that was completed from parts, or
// streamed in parts without being said before, is not known (Copy can record
// it). Put buffers up to a part in memory and sends parts one after the other.
// MinIO forgets its list of uploads when it starts, though not the uploads: they
// can go on by key and id, but Uploads, and so blob.Sweep, no longer sees them.
// It removes them itself after a day, unless it is told otherwise. Conditional
// writes must be atomic on the server, as those of MinIO and AWS are.
package s3blob

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Bucket is a blob.Bucket on a server. It is safe for concurrent use.
type Bucket struct {
	core      *minio.Core
	transport *http.Transport
	bucket    string
	prefix    string // empty, or with a slash at its end
	partSize  int64
}

var _ blob.Bucket = (*Bucket)(nil)

// Open connects to the bucket and creates it if need be. Close it when done.
func Open(ctx context.Context, cfg Config) (*Bucket, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupPath
	if cfg.VirtualHost {
		lookup = minio.BucketLookupDNS
	}
	core, err := minio.NewCore(cfg.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""), Secure: !cfg.Insecure, Transport: transport,
		Region: cfg.Region, BucketLookup: lookup, MaxRetries: cfg.Tries,
	})
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%q is not the endpoint of an object store: expected host or host:port", cfg.Endpoint).WithCode(codeConfig)
	}
	b := &Bucket{core: core, transport: transport, bucket: cfg.Bucket, partSize: cfg.PartSize}
	if cfg.Prefix != "" {
		b.prefix = cfg.Prefix + "/"
	}
	if err := b.ensure(ctx, cfg); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// ensure makes the bucket where it is not. Several nodes may do so at once.
func (b *Bucket) ensure(ctx context.Context, cfg Config) error {
	err := b.Check(ctx)
	if cfg.NoCreate || !isCode(err, minio.NoSuchBucket) {
		return err
	}
	err = b.core.MakeBucket(ctx, b.bucket, minio.MakeBucketOptions{Region: cfg.Region})
	if isCode(err, "BucketAlreadyOwnedByYou") || isCode(err, "BucketAlreadyExists") {
		return b.Check(ctx)
	}
	return translate(ctx, err, subject{})
}

// Close closes the connections that are idle.
func (b *Bucket) Close() { b.transport.CloseIdleConnections() }

// Check asks the server for the bucket, as a readiness check.
func (b *Bucket) Check(ctx context.Context) error {
	there, err := b.core.BucketExists(ctx, b.bucket)
	if err == nil && !there {
		err = minio.ErrorResponse{Code: minio.NoSuchBucket, StatusCode: http.StatusNotFound}
	}
	return translate(ctx, err, subject{})
}

// name is the key as the server knows it.
func (b *Bucket) name(key string) string { return b.prefix + key }

// Stat implements blob.Reader.
func (b *Bucket) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := checkKey(ctx, key); err != nil {
		return blob.Info{}, err
	}
	info, err := b.core.StatObject(ctx, b.bucket, b.name(key), minio.StatObjectOptions{})
	if err != nil {
		return blob.Info{}, translate(ctx, err, subject{key: key})
	}
	return infoOf(key, info), nil
}

func checkKey(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	return ctx.Err()
}

// Delete implements blob.Writer.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := checkKey(ctx, key); err != nil {
		return err
	}
	err := b.core.RemoveObject(ctx, b.bucket, b.name(key), minio.RemoveObjectOptions{})
	if isCode(err, minio.NoSuchKey) {
		return nil
	}
	return translate(ctx, err, subject{key: key})
}

// maxCopy is what S3 copies with one request, in bytes.
const maxCopy = 5 << 30

// Copy implements blob.Copier. The server copies; beyond 5 GiB in parts.
func (b *Bucket) Copy(ctx context.Context, from, to, sha256 string) (blob.Info, error) {
	if err := blob.CheckSHA256(sha256); err != nil {
		return blob.Info{}, err
	}
	if err := checkKey(ctx, to); err != nil {
		return blob.Info{}, err
	}
	info, err := b.Stat(ctx, from)
	if err != nil {
		return blob.Info{}, err
	}
	if sha256 != "" && info.SHA256 != "" && sha256 != info.SHA256 {
		return blob.Info{}, blob.OtherSum(from, info.SHA256, sha256)
	}
	if info.SHA256 == "" {
		info.SHA256 = sha256
	}
	meta := metadata(blob.UploadOptions{Metadata: info.Metadata}, info.SHA256)
	meta["content-type"] = info.ContentType // the library's way to set it
	target := minio.CopyDestOptions{Bucket: b.bucket, Object: b.name(to), UserMetadata: meta, ReplaceMetadata: true}
	source := minio.CopySrcOptions{Bucket: b.bucket, Object: b.name(from), MatchETag: info.ETag}
	if info.Size <= maxCopy {
		_, err = b.core.Client.CopyObject(ctx, target, source)
	} else {
		_, err = b.core.ComposeObject(ctx, target, source)
	}
	if err != nil {
		return blob.Info{}, translate(ctx, err, subject{key: from, cond: blob.Condition{IfMatch: info.ETag}})
	}
	return b.Stat(ctx, to)
}

// PresignGet implements blob.Presigner.
func (b *Bucket) PresignGet(ctx context.Context, key string, expires time.Duration, fileName string) (string, error) {
	params := url.Values{}
	if fileName != "" {
		params.Set("response-content-disposition", disposition(fileName))
	}
	return b.presign(ctx, key, expires, func() (*url.URL, error) {
		return b.core.PresignedGetObject(ctx, b.bucket, b.name(key), expires, params)
	})
}

// PresignPut implements blob.Presigner.
func (b *Bucket) PresignPut(ctx context.Context, key string, expires time.Duration) (string, error) {
	return b.presign(ctx, key, expires, func() (*url.URL, error) {
		return b.core.PresignedPutObject(ctx, b.bucket, b.name(key), expires)
	})
}

// PresignPart implements blob.Presigner. The length is signed with the address, so
// that the server takes no other.
func (b *Bucket) PresignPart(ctx context.Context, up blob.Upload, number int, size int64, expires time.Duration) (string, error) {
	if err := checkUpload(ctx, up); err != nil {
		return "", err
	}
	if err := blob.CheckPart(number); err != nil {
		return "", err
	}
	params := url.Values{"partNumber": {strconv.Itoa(number)}, "uploadId": {up.ID}}
	length := http.Header{"Content-Length": {strconv.FormatInt(size, 10)}}
	return b.presign(ctx, up.Key, expires, func() (*url.URL, error) {
		return b.core.PresignHeader(ctx, http.MethodPut, b.bucket, b.name(up.Key), expires, params, length)
	})
}

func (b *Bucket) presign(ctx context.Context, key string, expires time.Duration, sign func() (*url.URL, error)) (string, error) {
	if err := checkKey(ctx, key); err != nil {
		return "", err
	}
	if err := blob.CheckExpiry(expires); err != nil {
		return "", err
	}
	u, err := sign()
	if err != nil {
		return "", translate(ctx, err, subject{key: key})
	}
	return u.String(), nil
}

// disposition tells browsers to save a file, under a name in any script
// (RFC 6266, section 4).
func disposition(fileName string) string {
	if d := mime.FormatMediaType("attachment", map[string]string{"filename": fileName}); d != "" {
		return d
	}
	return "attachment"
}

// sumMeta names the digest in an object's metadata.
const sumMeta = blob.ReservedMetadata + "sha256"

// metadata returns what is sent with an object.
func metadata(opts blob.UploadOptions, sha256 string) map[string]string {
	meta := make(map[string]string, len(opts.Metadata)+1)
	maps.Copy(meta, opts.Metadata)
	if sha256 != "" {
		meta[sumMeta] = sha256
	}
	return meta
}

// infoOf describes an object as the server does. Names of metadata have lost
// their case on the way.
func infoOf(key string, o minio.ObjectInfo) blob.Info {
	info := blob.Info{Key: key, Size: o.Size, ETag: o.ETag, ContentType: o.ContentType, Modified: o.LastModified}
	for name, value := range o.UserMetadata {
		switch name = strings.ToLower(name); {
		case name == sumMeta:
			if raw, err := hex.DecodeString(value); err == nil && len(raw) == 32 {
				info.SHA256 = value
			}
		case !strings.HasPrefix(name, blob.ReservedMetadata):
			if info.Metadata == nil {
				info.Metadata = map[string]string{}
			}
			info.Metadata[name] = value
		}
	}
	return info
}

// String describes the bucket for logs, without secrets.
func (b *Bucket) String() string {
	return fmt.Sprintf("s3://%s/%s/%s", b.core.EndpointURL().Host, b.bucket, b.prefix)
}
