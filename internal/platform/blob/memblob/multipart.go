package memblob

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"iter"
	"maps"
	"slices"

	"sluice/internal/platform/blob"
)

// upload is an unfinished upload; Bucket.mu guards it.
type upload struct {
	blob.Upload
	opts  blob.UploadOptions
	parts map[int]part
}

type part struct {
	blob.Part
	data []byte
}

// Begin implements blob.Multipart.
func (b *Bucket) Begin(ctx context.Context, key string, opts blob.UploadOptions) (blob.Upload, error) {
	if err := ctx.Err(); err != nil {
		return blob.Upload{}, err
	}
	if err := blob.CheckKey(key); err != nil {
		return blob.Upload{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Upload{}, err
	}
	opts.Metadata = maps.Clone(opts.Metadata)
	up := blob.Upload{Key: key, ID: rand.Text(), Started: b.now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploads[up.ID] = &upload{up, opts, map[int]part{}}
	return up, nil
}

// Part implements blob.Multipart.
func (b *Bucket) Part(ctx context.Context, up blob.Upload, number int, body io.Reader, opts blob.PartOptions) (blob.Part, error) {
	if err := blob.CheckPart(number); err != nil {
		return blob.Part{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Part{}, err
	}
	checked := blob.NewChecked(ctx, body, opts)
	data, err := io.ReadAll(checked)
	if err != nil {
		return blob.Part{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u, err := b.find(up)
	if err != nil {
		return blob.Part{}, err
	}
	p := blob.Part{Number: number, Size: checked.Size(), ETag: checked.SHA256()[:32]}
	u.parts[number] = part{p, data}
	return p, nil
}

// find returns an upload; b.mu is held.
func (b *Bucket) find(up blob.Upload) (*upload, error) {
	if u := b.uploads[up.ID]; u != nil && u.Key == up.Key {
		return u, nil
	}
	return nil, blob.NoUpload(up)
}

// Complete implements blob.Multipart.
func (b *Bucket) Complete(ctx context.Context, up blob.Upload, parts []blob.Part, cond blob.Condition) (blob.Info, error) {
	if err := ctx.Err(); err != nil {
		return blob.Info{}, err
	}
	if err := cond.Check(); err != nil {
		return blob.Info{}, err
	}
	parts, err := blob.CommitOrder(parts)
	if err != nil {
		return blob.Info{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u, err := b.find(up)
	if err != nil {
		return blob.Info{}, err
	}
	var data bytes.Buffer
	for _, p := range parts {
		stored, ok := u.parts[p.Number]
		if !ok || stored.Part != p {
			return blob.Info{}, blob.BadPart(p.Number)
		}
		data.Write(stored.data)
	}
	sum := sha256.Sum256(data.Bytes())
	info, err := b.commit(up.Key, data.Bytes(), hex.EncodeToString(sum[:]), u.opts, cond)
	if err == nil {
		delete(b.uploads, up.ID)
	}
	return info, err
}

// Abort implements blob.Multipart.
func (b *Bucket) Abort(ctx context.Context, up blob.Upload) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.find(up); err == nil {
		delete(b.uploads, up.ID)
	}
	return nil
}

// Uploads implements blob.UploadLister.
func (b *Bucket) Uploads(ctx context.Context, folder string) iter.Seq2[blob.Upload, error] {
	return func(yield func(blob.Upload, error) bool) {
		if err := cmp.Or(ctx.Err(), blob.CheckFolder(folder)); err != nil {
			yield(blob.Upload{}, err)
			return
		}
		for _, up := range b.uploadsBelow(folder) {
			if !yield(up, nil) {
				return
			}
		}
	}
}

func (b *Bucket) uploadsBelow(folder string) []blob.Upload {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []blob.Upload
	for _, u := range b.uploads {
		if blob.Below(folder, u.Key) {
			found = append(found, u.Upload)
		}
	}
	slices.SortFunc(found, func(x, y blob.Upload) int { return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.ID, y.ID)) })
	return found
}

// Parts implements blob.UploadLister.
func (b *Bucket) Parts(ctx context.Context, up blob.Upload) iter.Seq2[blob.Part, error] {
	return func(yield func(blob.Part, error) bool) {
		parts, err := b.partsOf(up)
		if err = cmp.Or(ctx.Err(), err); err != nil {
			yield(blob.Part{}, err)
			return
		}
		for _, p := range parts {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func (b *Bucket) partsOf(up blob.Upload) ([]blob.Part, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	u, err := b.find(up)
	if err != nil {
		return nil, err
	}
	var parts []blob.Part
	for _, number := range slices.Sorted(maps.Keys(u.parts)) {
		parts = append(parts, u.parts[number].Part)
	}
	return parts, nil
}
