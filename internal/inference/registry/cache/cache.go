// Package cache keeps files of model versions on a node's disk, by their SHA-256.
//
// A file is verified before it is written and again each time that it is read, and
// gets its name, which is its digest, by a rename once it has reached the disk: a
// process that is killed leaves nothing that another trusts. The cache is bounded;
// what was not used for longest makes room. Several processes may share a folder.
//
// Known limit: a file is held in memory as a whole while it is fetched or read.
package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Cache is a folder of files by digest.
type Cache struct {
	root  *os.Root
	limit int64
	log   *slog.Logger

	mu       sync.Mutex
	fetching map[string]chan struct{} // closed when a fetch of the digest has ended
}

// partial begins the names of files that are being written. One that is older than
// stale was left by a process that died.
const (
	partial = ".partial-"
	stale   = time.Hour
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Open returns the cache in a folder, which it makes, of at most limit bytes. What
// dead processes have left is removed.
func Open(dir string, limit int64, log *slog.Logger) (*Cache, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // G703: the folder of the operator's own configuration
		return nil, fault.Wrap(fault.Internal, err, "the folder %s for model files cannot be made", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the folder %s of model files cannot be opened", dir)
	}
	c := &Cache{root: root, limit: limit, log: log, fetching: map[string]chan struct{}{}}
	entries, err := c.list()
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.Internal, err, "the folder %s of model files cannot be listed", dir), root.Close())
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), partial) && time.Since(info.ModTime()) > stale {
			_ = root.Remove(e.Name()) // the next start tries again
		}
	}
	return c, c.makeRoom(0)
}

// Close lets go of the folder.
func (c *Cache) Close() error { return c.root.Close() }

func (c *Cache) list() ([]fs.DirEntry, error) { return fs.ReadDir(c.root.FS(), ".") }

// Get returns the file with a digest and size, from the disk or else by fetch, one
// at a time for each digest. It fails with fault.Internal and blob.CodeChecksum
// where what was fetched is another file. A disk that takes no file keeps nobody
// from having it.
func (c *Cache) Get(ctx context.Context, digest string, size int64, fetch func(context.Context) (io.ReadCloser, error)) ([]byte, error) {
	if !digestForm.MatchString(digest) {
		return nil, fault.New(fault.Internal, "%q is not a SHA-256 digest", fault.Clip(digest, 80))
	}
	done, err := c.turn(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer done()
	if data, ok := c.read(ctx, digest, size); ok {
		return data, nil
	}
	data, err := download(ctx, digest, size, fetch)
	if err != nil {
		return nil, err
	}
	if err := c.write(digest, data); err != nil {
		c.log.WarnContext(ctx, "a model file could not be kept on the disk; it will be fetched again", "sha256", digest, "error", err)
	}
	return data, nil
}

// turn waits until nobody else fetches the digest.
func (c *Cache) turn(ctx context.Context, digest string) (done func(), err error) {
	for {
		c.mu.Lock()
		other, busy := c.fetching[digest]
		if !busy {
			mine := make(chan struct{})
			c.fetching[digest] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.fetching, digest)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fault.Of(ctx.Err())
		}
	}
}

// read returns the file of the disk, if it is whole.
func (c *Cache) read(ctx context.Context, digest string, size int64) ([]byte, bool) {
	info, err := c.root.Stat(digest)
	if err != nil {
		return nil, false
	}
	data, err := c.root.ReadFile(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err == nil && (info.Size() != size || sum(data) != digest) {
		err = errors.New("its content is not what the digest says")
	}
	if err != nil {
		c.log.ErrorContext(ctx, "a model file on the disk is damaged; it is removed and fetched again", "sha256", digest, "error", err)
		_ = c.root.Remove(digest)
		return nil, false
	}
	now := time.Now()
	_ = c.root.Chtimes(digest, now, now) // the time of its last use, by which it makes room
	return data, true
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func download(ctx context.Context, digest string, size int64, fetch func(context.Context) (io.ReadCloser, error)) ([]byte, error) {
	r, err := fetch(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, size)
	if _, err = io.ReadFull(r, data); err == nil {
		var more int
		if more, err = io.ReadFull(r, make([]byte, 1)); more > 0 {
			return nil, fault.New(fault.Internal, "the model file %s has more than %d bytes: the object store has damaged it", digest, size).WithCode(blob.CodeChecksum)
		}
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fault.New(fault.Internal, "the model file %s has fewer than %d bytes: the object store has damaged it", digest, size).WithCode(blob.CodeChecksum)
	case err != nil && !errors.Is(err, io.EOF):
		if _, ok := errors.AsType[*fault.Error](err); ok {
			return nil, err
		}
		return nil, fault.Wrap(fault.Unavailable, err, "the model file %s cannot be fetched", digest)
	}
	if got := sum(data); got != digest {
		return nil, fault.New(fault.Internal, "a model file has the SHA-256 %s, expected %s: the object store has damaged it", got, digest).WithCode(blob.CodeChecksum)
	}
	return data, nil
}

// write puts the file on the disk, whole or not at all.
func (c *Cache) write(digest string, data []byte) error {
	if int64(len(data)) > c.limit {
		return nil // it would push out all others
	}
	if err := c.makeRoom(int64(len(data))); err != nil {
		return err
	}
	name := partial + rand.Text()
	f, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = c.root.Remove(name) }() // fails once it is renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return c.root.Rename(name, digest)
}

// makeRoom removes the files that were not used for longest until more fits.
func (c *Cache) makeRoom(more int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := c.list()
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	held := more
	for _, e := range entries {
		if info, err := e.Info(); err == nil && digestForm.MatchString(e.Name()) {
			files, held = append(files, info), held+info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, info := range files {
		if held <= c.limit {
			return nil
		}
		if err := c.root.Remove(info.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		held -= info.Size()
	}
	return nil
}
