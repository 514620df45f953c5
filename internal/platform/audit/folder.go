package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"sluice/internal/platform/fault"
)

// Folder is a Storage in a folder of a local file system: every object is
// written to a temporary file, flushed to the disk, renamed, and the folder
// flushed. One Folder at a time, in whatever process, may have it open.
type Folder struct {
	root string
	lock *os.File

	swap sync.Mutex
	mu   sync.Mutex
	made map[string]bool // folders that exist for certain
}

// scratch holds files that are being written.
const scratch = ".tmp"

// OpenFolder opens the folder, and makes it where it does not exist. It is
// fault.Conflict while another Folder has it open.
func OpenFolder(root string) (*Folder, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("folder of the audit log: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(root, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock of the audit log: %w", err)
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return nil, fault.Wrap(fault.Conflict, err, "the audit log %s is open already: stop the other process, or give this one another folder", root).WithCode("audit_second_writer")
	}
	f := &Folder{root: root, lock: lock, made: make(map[string]bool)}
	// Alone here, so what lies there is of a process that died.
	if err := errors.Join(os.RemoveAll(f.path(scratch)), os.Mkdir(f.path(scratch), 0o755), syncFolder(root)); err != nil {
		lock.Close()
		return nil, fmt.Errorf("folder of the audit log: %w", err)
	}
	return f, nil
}

// Close lets others open the folder.
func (f *Folder) Close() error { return f.lock.Close() }

func (f *Folder) path(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

// Read implements Storage.
func (f *Folder) Read(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return os.ReadFile(f.path(name))
}

// Swap implements Storage. The lock of the folder keeps other processes out.
func (f *Folder) Swap(ctx context.Context, name string, old, data []byte) error {
	f.swap.Lock()
	defer f.swap.Unlock()
	now, err := f.Read(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if (err == nil) != (old != nil) || !bytes.Equal(now, old) {
		return errSwapped(name)
	}
	return f.Write(ctx, name, data)
}

// Write implements Storage.
func (f *Folder) Write(ctx context.Context, name string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	target := f.path(name)
	if err := f.makeFolder(filepath.Dir(target)); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(f.path(scratch), "*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncFolder(filepath.Dir(target))
}

// makeFolder makes a folder and those above it, each durably.
func (f *Folder) makeFolder(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.makeLocked(dir)
}

func (f *Folder) makeLocked(dir string) error {
	if dir == filepath.Clean(f.root) || f.made[dir] {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := f.makeLocked(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also where it exists: who made it may have died before this.
	if err := syncFolder(parent); err != nil {
		return err
	}
	f.made[dir] = true
	return nil
}

// Remove implements Storage. It is not flushed: a deletion may come back.
func (f *Folder) Remove(_ context.Context, names ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range names {
		// The folder of the partial tiles goes with its last one.
		if dir := filepath.Dir(f.path(name)); strings.HasSuffix(dir, ".p") && os.Remove(dir) == nil {
			delete(f.made, dir)
		}
	}
	return nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
