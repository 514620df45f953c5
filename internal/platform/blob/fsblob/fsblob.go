// Package fsblob keeps objects in a folder.
//
// An object is one file: its bytes, then its description (type, digest,
// metadata), then a footer that finds the description. The alternatives were a
// file beside it, which no file system replaces together with the first, and a
// pointer to content-addressed data, which needs a collector. With one file,
// one rename publishes or replaces everything, and readers keep the version that
// they opened. The bytes come first so that a range is a plain read.
//
// A write goes to a file in the folder "%tmp", is flushed to the disk, moved to
// its place (or linked, where nothing may be there), and the folder that names
// it is flushed. A crash leaves files in "%tmp" only, which Open removes once
// they are old. "%" is in no key, so that the names of the adapter and those of
// its users never meet: the object a/b is the file "a/b%", beside which the
// folder "a/b" may hold others.
//
// Several processes may use a folder at once; "%lock" orders their writes.
//
// Known limits: the file system must be local, tell upper from lower case, and
// know hard links and flock; it is Unix only. A folder's names are read and
// sorted at once when it is listed. Complete copies the parts, since their
// bytes must be hashed together. Copies share one file, and what damages it
// damages all. Damage is found where it is asked for (see blob.Verify), not by
// every read. Presigned addresses are not offered.
package fsblob

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"sync"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Names of the adapter's own; they are no keys.
const (
	tmpDir    = "%tmp"
	uploadDir = "%uploads"
	lockFile  = "%lock"
	suffix    = "%" // of an object's file
)

// Config has what Open can do without.
type Config struct {
	Now func() time.Time // time.Now if nil
	// TempAge is how old a temporary file must be to count as left by a crash;
	// 24 h if 0. Writing renews it.
	TempAge time.Duration
}

// Bucket is a blob.Bucket in a folder. It is safe for concurrent use.
type Bucket struct {
	root *os.Root
	now  func() time.Time
	// order is held for reading by what adds or replaces a file, and for writing
	// by what must see that nothing changes: conditions, and folders that come
	// and go. It is flock's counterpart in this process, which flock would let
	// starve writers.
	order sync.RWMutex
}

var _ blob.Bucket = (*Bucket)(nil)

// Dir returns the folder that an address names: file:./data, file:/srv/data,
// file:///srv/data.
func Dir(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" || u.Host != "" || u.RawQuery != "" || u.Opaque == "" && u.Path == "" {
		return "", fault.New(fault.Invalid, "%q names no folder for objects: expected file:./data or file:///srv/data", address)
	}
	if u.Opaque != "" {
		return url.PathUnescape(u.Opaque)
	}
	return u.Path, nil
}

// Open opens the folder, makes it if need be, and removes what a crash has left.
// Close the bucket when done.
func Open(dir string, cfg Config) (*Bucket, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TempAge == 0 {
		cfg.TempAge = 24 * time.Hour
	}
	if err := os.MkdirAll(dir, 0o750); err != nil { //nolint:gosec // the folder is the operator's to name
		return nil, translate(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, translate(err)
	}
	b := &Bucket{root: root, now: cfg.Now}
	if err := b.prepare(cfg.TempAge); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return b, nil
}

// Close releases the folder. Bodies that are still open stay readable.
func (b *Bucket) Close() error { return translate(b.root.Close()) }

// Check writes and removes an empty file, as a readiness check: a folder that
// is gone, full or read-only is not ready.
func (b *Bucket) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tmp, err := b.temp()
	if err != nil {
		return err
	}
	defer tmp.discard()
	_, err = tmp.file.Write([]byte{0})
	return translate(err)
}

// Put implements blob.Writer.
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) (blob.Info, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Info{}, err
	}
	if err := opts.Check(); err != nil {
		return blob.Info{}, err
	}
	info, err := b.store(ctx, body, opts.PartOptions, opts.UploadOptions, place{name: key, cond: opts.Condition})
	info.Key = key
	return info, err
}

// Delete implements blob.Writer.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.remove(key + suffix)
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
