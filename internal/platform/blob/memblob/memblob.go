// Package memblob keeps objects in memory, for tests and for programs that need
// no objects after they end. It passes the contract suite of package blobtest.
//
// Known limits: everything is lost when the process ends, nothing bounds the
// memory, and a list looks at every key.
package memblob

import (
	"bytes"
	"context"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/internal/platform/blob"
)

// Config has what New can do without.
type Config struct {
	Now func() time.Time // time.Now if nil
}

// Bucket is a blob.Bucket in memory.
type Bucket struct {
	now func() time.Time

	mu      sync.RWMutex
	objects map[string]object
	uploads map[string]*upload // by id
}

// object is immutable once it is in the map: readers share its bytes.
type object struct {
	info blob.Info
	data []byte
}

var _ blob.Bucket = (*Bucket)(nil)

// New returns an empty bucket.
func New(cfg Config) *Bucket {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Bucket{now: cfg.Now, objects: map[string]object{}, uploads: map[string]*upload{}}
}

// Put implements blob.Writer.
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) (blob.Info, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Info{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Info{}, err
	}
	checked := blob.NewChecked(ctx, body, opts.PartOptions)
	data, err := io.ReadAll(checked)
	if err != nil {
		return blob.Info{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.commit(key, data, checked.SHA256(), opts.UploadOptions, opts.Condition)
}

// commit publishes an object; b.mu is held.
func (b *Bucket) commit(key string, data []byte, digest string, opts blob.UploadOptions, cond blob.Condition) (blob.Info, error) {
	old, exists := b.objects[key]
	if cond.IfAbsent && exists || cond.IfMatch != "" && old.info.ETag != cond.IfMatch {
		return blob.Info{}, blob.Refused(key, cond)
	}
	info := blob.Info{
		Key: key, Size: int64(len(data)), SHA256: digest, ETag: digest[:32],
		ContentType: opts.ContentType, Modified: b.now(), Metadata: maps.Clone(opts.Metadata),
	}
	if info.ContentType == "" {
		info.ContentType = blob.DefaultContentType
	}
	if len(info.Metadata) == 0 {
		info.Metadata = nil
	}
	b.objects[key] = object{info, data}
	return copyOf(info), nil
}

// Get implements blob.Reader.
func (b *Bucket) Get(ctx context.Context, key string, opts blob.GetOptions) (blob.Object, error) {
	o, err := b.object(ctx, key)
	if err != nil {
		return blob.Object{}, err
	}
	if opts.IfMatch != "" && opts.IfMatch != o.info.ETag {
		return blob.Object{}, blob.Refused(key, blob.Condition{IfMatch: opts.IfMatch})
	}
	rng, err := opts.Resolve(o.info.Size)
	if err != nil {
		return blob.Object{}, err
	}
	body := bytes.NewReader(o.data[rng.Offset:][:rng.Length])
	return blob.Object{Info: copyOf(o.info), Range: rng, Body: io.NopCloser(body)}, nil
}

// Stat implements blob.Reader.
func (b *Bucket) Stat(ctx context.Context, key string) (blob.Info, error) {
	o, err := b.object(ctx, key)
	return copyOf(o.info), err
}

func (b *Bucket) object(ctx context.Context, key string) (object, error) {
	if err := ctx.Err(); err != nil {
		return object{}, err
	}
	if err := blob.CheckKey(key); err != nil {
		return object{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	o, ok := b.objects[key]
	if !ok {
		return object{}, blob.NoObject(key)
	}
	return o, nil
}

// Delete implements blob.Writer.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
	return nil
}

// List implements blob.Lister, over the keys of the moment it starts.
func (b *Bucket) List(ctx context.Context, folder, after string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if err := blob.CheckFolder(folder); err != nil {
			yield(blob.Info{}, err)
			return
		}
		for _, info := range b.below(folder, after) {
			if err := ctx.Err(); err != nil {
				yield(blob.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (b *Bucket) below(folder, after string) []blob.Info {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []blob.Info
	for key, o := range b.objects {
		if key > after && blob.Below(folder, key) {
			found = append(found, copyOf(o.info))
		}
	}
	slices.SortFunc(found, func(x, y blob.Info) int { return strings.Compare(x.Key, y.Key) })
	return found
}

// Copy implements blob.Copier.
func (b *Bucket) Copy(ctx context.Context, from, to, sha256 string) (blob.Info, error) {
	if err := blob.CheckSHA256(sha256); err != nil {
		return blob.Info{}, err
	}
	if err := blob.CheckKey(to); err != nil {
		return blob.Info{}, err
	}
	o, err := b.object(ctx, from)
	if err != nil {
		return blob.Info{}, err
	}
	if sha256 != "" && sha256 != o.info.SHA256 {
		return blob.Info{}, blob.OtherSum(from, o.info.SHA256, sha256)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.commit(to, o.data, o.info.SHA256, blob.UploadOptions{ContentType: o.info.ContentType, Metadata: o.info.Metadata}, blob.Condition{})
}

// PresignGet implements blob.Presigner: it is Unsupported.
func (b *Bucket) PresignGet(context.Context, string, time.Duration, string) (string, error) {
	return "", blob.NoPresign()
}

// PresignPut implements blob.Presigner: it is Unsupported.
func (b *Bucket) PresignPut(context.Context, string, time.Duration) (string, error) {
	return "", blob.NoPresign()
}

// PresignPart implements blob.Presigner: it is Unsupported.
func (b *Bucket) PresignPart(context.Context, blob.Upload, int, int64, time.Duration) (string, error) {
	return "", blob.NoPresign()
}

// copyOf keeps callers from changing what is stored.
func copyOf(info blob.Info) blob.Info {
	info.Metadata = maps.Clone(info.Metadata)
	return info
}
