package fsblob

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"sluice/internal/platform/blob"
)

// copyStep is how much is copied, in bytes, before the context is looked at.
const copyStep = 64 << 20

// Copy implements blob.Copier. The copy is one more name of the same file, which costs the same
// whatever its size: files are never changed in place, and stay until their last name is gone.
// Both names share the file's own time, and so the later Modified.
func (b *Bucket) Copy(ctx context.Context, from, to, sha256 string) (blob.Info, error) {
	if err := blob.CheckSHA256(sha256); err != nil {
		return blob.Info{}, err
	}
	if err := blob.CheckKey(to); err != nil {
		return blob.Info{}, err
	}
	if err := blob.CheckKey(from); err != nil {
		return blob.Info{}, err
	}
	tmp, err := b.share(ctx, from)
	if err != nil {
		return blob.Info{}, missing(from, err)
	}
	defer tmp.discard()
	info, err := b.stat(tmp.name, from)
	if err != nil {
		return blob.Info{}, err
	}
	if sha256 != "" && sha256 != info.SHA256 {
		return blob.Info{}, blob.OtherSum(from, info.SHA256, sha256)
	}
	info.Key, info.Modified = to, b.now().UTC()
	if err := tmp.date(info.Modified); err != nil {
		return blob.Info{}, err
	}
	return info, b.publish(ctx, tmp, place{name: to})
}

// share returns an object's file by a name of its own.
func (b *Bucket) share(ctx context.Context, from string) (*temp, error) {
	t := &temp{root: b.root, name: tempName()}
	err := b.root.Link(from+suffix, t.name)
	if errors.Is(err, syscall.EMLINK) { // of ext4 a file has 65,000 names at most
		return b.twin(ctx, from)
	}
	return t, err
}

// twin copies an object's file.
func (b *Bucket) twin(ctx context.Context, from string) (*temp, error) {
	f, err := b.root.Open(from + suffix)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := b.temp()
	if err != nil {
		return nil, err
	}
	if err = t.take(ctx, f); err == nil {
		err = translate(t.file.Sync())
	}
	if err != nil {
		t.discard()
		return nil, err
	}
	return t, nil
}

// take copies another file. The kernel does, and where the file system can, both share the bytes.
func (t *temp) take(ctx context.Context, from *os.File) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch _, err := io.CopyN(t.file, from, copyStep); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return translate(err)
		}
	}
}
