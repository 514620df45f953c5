package fsblob

import (
	"context"
	"io"
	"os"

	"sluice/internal/platform/blob"
)

// copyStep is how much is copied, in bytes, before the context is looked at.
const copyStep = 64 << 20

// Copy implements blob.Copier. The kernel copies the bytes, and where the file
// system can, both files share them. A hard link would need no copy, but both
// names would have one description, and with it one Modified.
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
	f, err := b.root.Open(from + suffix)
	if err != nil {
		return blob.Info{}, missing(from, err)
	}
	defer f.Close()
	info, err := describe(f, from)
	if err != nil {
		return blob.Info{}, err
	}
	if sha256 != "" && sha256 != info.SHA256 {
		return blob.Info{}, blob.OtherSum(from, info.SHA256, sha256)
	}
	tmp, err := b.temp()
	if err != nil {
		return blob.Info{}, err
	}
	defer tmp.discard()
	if err := tmp.take(ctx, f, info.Size); err != nil {
		return blob.Info{}, err
	}
	info.Key, info.Modified = to, b.now().UTC()
	if err := tmp.seal(description{info.SHA256, info.ContentType, info.Modified, info.Metadata}); err != nil {
		return blob.Info{}, err
	}
	return info, b.publish(ctx, tmp, place{name: to})
}

// take copies the first n bytes of another file.
func (t *temp) take(ctx context.Context, from *os.File, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		moved, err := io.CopyN(t.file, from, min(n, copyStep))
		if err != nil {
			return translate(err)
		}
		n -= moved
	}
	return nil
}
