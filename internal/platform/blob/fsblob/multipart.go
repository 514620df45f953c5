package fsblob

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/blob"
)

// An upload is a folder of uploadDir with its id as name. The file "begin%"
// describes it; the parts are files in the form of objects, "1%" and so on.
const beginFile = "begin" + suffix

// begun is the content of beginFile.
type begun struct {
	Key         string            `json:"key"`
	Started     time.Time         `json:"started"`
	ContentType string            `json:"content_type"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// Begin implements blob.Multipart.
func (b *Bucket) Begin(ctx context.Context, key string, opts blob.UploadOptions) (blob.Upload, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Upload{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Upload{}, err
	}
	up := blob.Upload{Key: key, ID: rand.Text(), Started: b.now().UTC()}
	text, err := json.Marshal(begun{key, up.Started, opts.ContentType, opts.Metadata})
	if err != nil {
		return blob.Upload{}, err
	}
	_, err = b.store(ctx, strings.NewReader(string(text)), blob.PartOptions{}, blob.UploadOptions{}, place{name: uploadDir + "/" + up.ID + "/begin"})
	return up, err
}

// store writes a file in the form of an object: what want says of its content has to be so.
func (b *Bucket) store(ctx context.Context, body io.Reader, want blob.PartOptions, as blob.UploadOptions, to place) (blob.Info, error) {
	tmp, err := b.temp()
	if err != nil {
		return blob.Info{}, err
	}
	defer tmp.discard()
	info, err := tmp.write(blob.NewChecked(ctx, body, want), as, b.now())
	if err != nil {
		return blob.Info{}, err
	}
	return info, b.publish(ctx, tmp, to)
}

// Part implements blob.Multipart.
func (b *Bucket) Part(ctx context.Context, up blob.Upload, number int, body io.Reader, opts blob.PartOptions) (blob.Part, error) {
	if err := blob.CheckPart(number); err != nil {
		return blob.Part{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Part{}, err
	}
	if _, err := b.upload(up); err != nil {
		return blob.Part{}, err
	}
	info, err := b.store(ctx, body, opts, blob.UploadOptions{}, place{name: partName(up, number), part: true})
	if errors.Is(err, fs.ErrNotExist) {
		return blob.Part{}, blob.NoUpload(up) // it has ended meanwhile
	}
	if err != nil {
		return blob.Part{}, err
	}
	return blob.Part{Number: number, Size: info.Size, ETag: info.ETag}, nil
}

func partName(up blob.Upload, number int) string {
	return uploadDir + "/" + up.ID + "/" + strconv.Itoa(number)
}

// upload reads what Begin has written.
func (b *Bucket) upload(up blob.Upload) (begun, error) {
	if len(up.ID) == 0 || strings.Trim(up.ID, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return begun{}, blob.NoUpload(up)
	}
	f, err := b.root.Open(uploadDir + "/" + up.ID + "/" + beginFile)
	if err != nil {
		if absent(err) {
			return begun{}, blob.NoUpload(up)
		}
		return begun{}, translate(err)
	}
	defer f.Close()
	obj, err := open(f, "upload "+up.ID, blob.GetOptions{})
	if err != nil {
		return begun{}, err
	}
	var got begun
	text, err := io.ReadAll(obj.Verified())
	if err != nil {
		return begun{}, err
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return begun{}, blob.Rotten("upload "+up.ID, "it is no JSON")
	}
	if up.Key != "" && got.Key != up.Key {
		return begun{}, blob.NoUpload(up)
	}
	return got, nil
}

// Complete implements blob.Multipart.
func (b *Bucket) Complete(ctx context.Context, up blob.Upload, parts []blob.Part, cond blob.Condition) (blob.Info, error) {
	if err := cond.Check(); err != nil {
		return blob.Info{}, err
	}
	parts, err := blob.CommitOrder(parts)
	if err != nil {
		return blob.Info{}, err
	}
	begun, err := b.named(up)
	if err != nil {
		return blob.Info{}, err
	}
	tmp, err := b.temp()
	if err != nil {
		return blob.Info{}, err
	}
	defer tmp.discard()
	joined := &joiner{bucket: b, upload: up, parts: parts}
	defer joined.close()
	info, err := tmp.write(blob.NewChecked(ctx, joined, blob.PartOptions{}), blob.UploadOptions{ContentType: begun.ContentType, Metadata: begun.Metadata}, b.now())
	if err != nil {
		return blob.Info{}, err
	}
	info.Key = up.Key
	if err := b.publish(ctx, tmp, place{name: up.Key, cond: cond, ends: &up}); err != nil {
		return blob.Info{}, err
	}
	return info, b.clear(up)
}

// Abort implements blob.Multipart.
func (b *Bucket) Abort(ctx context.Context, up blob.Upload) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := b.named(up); err != nil {
		if blobMissing(err) {
			return nil
		}
		return err
	}
	unlock, err := b.lock(true)
	if err != nil {
		return err
	}
	err = b.end(up)
	unlock()
	return cmp.Or(err, b.clear(up))
}

// end ends an upload, at once for all who look for it; the lock is held
// exclusively, so that no part arrives meanwhile. What it leaves in tmpDir is
// for clear.
func (b *Bucket) end(up blob.Upload) error {
	if err := b.root.Rename(uploadDir+"/"+up.ID, tmpDir+"/"+up.ID); err != nil && !absent(err) {
		return translate(err)
	}
	return nil
}

// clear removes the files of an upload that has ended.
func (b *Bucket) clear(up blob.Upload) error {
	return cmp.Or(b.syncDir(uploadDir), translate(b.root.RemoveAll(tmpDir+"/"+up.ID)))
}

// named is upload for callers that must name the key.
func (b *Bucket) named(up blob.Upload) (begun, error) {
	if err := blob.CheckKey(up.Key); err != nil {
		return begun{}, err
	}
	return b.upload(up)
}

// Uploads implements blob.UploadLister.
func (b *Bucket) Uploads(ctx context.Context, folder string) iter.Seq2[blob.Upload, error] {
	return func(yield func(blob.Upload, error) bool) {
		found, err := b.uploads(folder)
		if err = cmp.Or(ctx.Err(), blob.CheckFolder(folder), err); err != nil {
			yield(blob.Upload{}, err)
			return
		}
		for _, up := range found {
			if !yield(up, nil) {
				return
			}
		}
	}
}

func (b *Bucket) uploads(folder string) ([]blob.Upload, error) {
	entries, err := b.entries(uploadDir)
	if err != nil {
		return nil, err
	}
	var found []blob.Upload
	for _, e := range entries {
		up := blob.Upload{ID: e.Name()}
		begun, err := b.upload(up)
		if blobMissing(err) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		up.Key, up.Started = begun.Key, begun.Started
		if blob.Below(folder, up.Key) {
			found = append(found, up)
		}
	}
	slices.SortFunc(found, func(x, y blob.Upload) int { return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.ID, y.ID)) })
	return found, nil
}

// Parts implements blob.UploadLister.
func (b *Bucket) Parts(ctx context.Context, up blob.Upload) iter.Seq2[blob.Part, error] {
	return func(yield func(blob.Part, error) bool) {
		parts, err := b.parts(up)
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

func (b *Bucket) parts(up blob.Upload) ([]blob.Part, error) {
	if _, err := b.named(up); err != nil {
		return nil, err
	}
	entries, err := b.entries(uploadDir + "/" + up.ID)
	if err != nil {
		return nil, err
	}
	var parts []blob.Part
	for _, e := range entries {
		number, err := strconv.Atoi(strings.TrimSuffix(e.Name(), suffix))
		if err != nil {
			continue // beginFile
		}
		info, err := b.stat(partName(up, number)+suffix, up.Key)
		if err != nil {
			return nil, err
		}
		parts = append(parts, blob.Part{Number: number, Size: info.Size, ETag: info.ETag})
	}
	slices.SortFunc(parts, func(x, y blob.Part) int { return cmp.Compare(x.Number, y.Number) })
	return parts, nil
}
