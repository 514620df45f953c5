package fsblob

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"sluice/internal/platform/blob"
)

// temp is a file that has not been published.
type temp struct {
	root *os.Root
	name string
	file *os.File
}

func tempName() string { return tmpDir + "/" + rand.Text() }

func (b *Bucket) temp() (*temp, error) {
	name := tempName()
	f, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, translate(err)
	}
	return &temp{b.root, name, f}, nil
}

// discard closes and removes the file. What is left of one that was published
// is removed by another name, or is nothing.
func (t *temp) discard() {
	if t.file != nil {
		t.file.Close()
	}
	_ = t.root.Remove(t.name) // Open removes what this cannot
}

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// write fills the file with the body and its description, and flushes it to the disk.
func (t *temp) write(body *blob.Checked, opts blob.UploadOptions, now time.Time) (blob.Info, error) {
	buf := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	if _, err := io.CopyBuffer(&disk{file: t.file}, body, buf[:]); err != nil {
		return blob.Info{}, err
	}
	d := description{
		SHA256: body.SHA256(), ContentType: cmp.Or(opts.ContentType, blob.DefaultContentType),
		Modified: now.UTC(), Metadata: opts.Metadata,
	}
	if len(d.Metadata) == 0 {
		d.Metadata = nil
	}
	return d.info("", body.Size()), t.seal(d)
}

// seal ends the file with its description, and flushes it to the disk.
func (t *temp) seal(d description) error {
	tail, err := d.encode()
	if err != nil {
		return err
	}
	if _, err := t.file.Write(tail); err != nil {
		return translate(err)
	}
	if err := t.date(d.Modified); err != nil {
		return err
	}
	return translate(t.file.Sync())
}

// date sets the file's own time, see describe.
func (t *temp) date(to time.Time) error { return translate(t.root.Chtimes(t.name, to, to)) }

// disk translates the errors of a file, so that they are told from the body's, and has
// the system write behind what comes: a long file that is flushed at its end only has
// everybody wait for all of it then.
type disk struct {
	file           *os.File
	written, begun int64 // bytes of the file, and of these the ones that are on their way to the disk
}

// behind is how many bytes are left to the system before they are sent on their way.
const behind = 4 << 20

// Write implements io.Writer.
func (d *disk) Write(p []byte) (int, error) {
	n, err := d.file.Write(p)
	if d.written += int64(n); d.written-d.begun >= behind {
		writeBehind(d.file, d.begun, d.written-d.begun)
		d.begun = d.written
	}
	return n, translate(err)
}

// place says where a file goes, and when.
type place struct {
	name string // without suffix
	cond blob.Condition
	part bool // of an upload: without its folder the upload has ended
	// ends is the upload, if any, that this completes.
	ends *blob.Upload
}

// publish gives the file its place, if the condition holds, and flushes the
// folder that names it.
func (b *Bucket) publish(ctx context.Context, t *temp, to place) error {
	dir := path.Dir(to.name)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := b.move(t, to)
		if !errors.Is(err, fs.ErrNotExist) || to.part {
			return cmp.Or(err, b.syncDir(dir))
		}
		// The folder is not there, or no longer: a delete may have taken it.
		if _, err := b.root.Lstat(t.name); err != nil {
			return blob.Unavailable(err)
		}
		if err := b.makeDirs(dir); err != nil {
			return err
		}
	}
}

// move moves the file where it belongs, in one step for every reader. Its error
// is fs.ErrNotExist where the folder is not there.
func (b *Bucket) move(t *temp, to place) error {
	unlock, err := b.lock(to.cond.IfMatch != "" || to.ends != nil)
	if err != nil {
		return err
	}
	defer unlock()
	if to.ends != nil {
		if _, err := b.upload(*to.ends); err != nil {
			return err
		}
	}
	if err := b.rename(t, to); err != nil || to.ends == nil {
		return err
	}
	// A crash before this leaves an upload that can be completed again, with the
	// same outcome.
	return b.end(*to.ends)
}

func (b *Bucket) rename(t *temp, to place) error {
	target := to.name + suffix
	if to.cond.IfAbsent {
		err := b.root.Link(t.name, target) // fails where the name is taken, unlike a rename
		if errors.Is(err, fs.ErrExist) {
			return blob.Refused(to.name, to.cond)
		}
		return unlessAbsent(err)
	}
	if to.cond.IfMatch != "" {
		old, err := b.stat(target, to.name)
		if err != nil && !blobMissing(err) {
			return err
		}
		if old.ETag != to.cond.IfMatch {
			return blob.Refused(to.name, to.cond)
		}
	}
	return unlessAbsent(b.root.Rename(t.name, target))
}

// unlessAbsent is translate, save that publish must recognise what is absent.
func unlessAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return translate(err)
}

// remove deletes a file and the folders that it leaves empty.
func (b *Bucket) remove(name string) error {
	unlock, err := b.lock(true)
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.root.Remove(name); err != nil {
		if absent(err) {
			return nil
		}
		return translate(err)
	}
	dir := path.Dir(name)
	for dir != "." && b.root.Remove(dir) == nil {
		dir = path.Dir(dir)
	}
	return b.syncDir(dir)
}

// makeDirs makes a folder and what is above it. They are on the disk before
// anybody can put a file there: else an object could be lost with the folder
// that another write made and has not flushed yet.
func (b *Bucket) makeDirs(dir string) error {
	unlock, err := b.lock(true)
	if err != nil {
		return err
	}
	defer unlock()
	for end := range len(dir) + 1 {
		if end < len(dir) && dir[end] != '/' {
			continue
		}
		switch err := b.root.Mkdir(dir[:end], 0o750); {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return translate(err)
		default:
			if err := b.syncDir(path.Dir(dir[:end])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Bucket) syncDir(dir string) error {
	d, err := b.root.Open(dir)
	if err != nil {
		if absent(err) {
			return nil // removed since, with all that was in it
		}
		return translate(err)
	}
	defer d.Close()
	return translate(d.Sync())
}

// lock orders writes between goroutines and processes: any number of shared
// holders, or an exclusive one. It is held for a few calls to the file system.
func (b *Bucket) lock(exclusive bool) (unlock func(), err error) {
	how, release := syscall.LOCK_SH, b.order.RUnlock
	if exclusive {
		how, release = syscall.LOCK_EX, b.order.Unlock
		b.order.Lock()
	} else {
		b.order.RLock()
	}
	f, err := b.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o640)
	if err == nil {
		if err = ignoreInterrupt(func() error { return syscall.Flock(int(f.Fd()), how) }); err == nil {
			return func() { f.Close(); release() }, nil
		}
		f.Close()
	}
	release()
	return nil, translate(err)
}

func ignoreInterrupt(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
