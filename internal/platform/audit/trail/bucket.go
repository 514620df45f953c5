package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// objects is what a log needs of a bucket.
type objects interface {
	blob.Reader
	blob.Writer
}

// bucket is an audit.Storage in a folder of a bucket.
type bucket struct {
	objects
	folder string
}

// Bucket returns where a log lies in a folder of a bucket.
func Bucket(b objects, folder string) audit.Storage { return bucket{b, folder + "/"} }

// Read implements audit.Storage.
func (b bucket) Read(ctx context.Context, name string) ([]byte, error) {
	data, _, err := b.read(ctx, name)
	return data, err
}

func (b bucket) read(ctx context.Context, name string) (data []byte, etag string, err error) {
	o, err := b.Get(ctx, b.folder+name, blob.GetOptions{})
	if fault.Is(err, fault.NotFound) {
		return nil, "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, "", err
	}
	defer o.Body.Close()
	data, err = io.ReadAll(o.Body)
	return data, o.Info.ETag, err
}

// Write implements audit.Storage.
func (b bucket) Write(ctx context.Context, name string, data []byte) error {
	return b.put(ctx, name, data, blob.Condition{})
}

func (b bucket) put(ctx context.Context, name string, data []byte, c blob.Condition) error {
	_, err := b.Put(ctx, b.folder+name, bytes.NewReader(data), blob.PutOptions{Condition: c, PartOptions: blob.PartOptions{Size: int64(len(data))}})
	return err
}

// Swap implements audit.Storage.
func (b bucket) Swap(ctx context.Context, name string, old, data []byte) error {
	now, etag, err := b.read(ctx, name)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if missing != (old == nil) || !bytes.Equal(now, old) {
		return fault.New(fault.Conflict, "%s was changed by another writer", name).WithCode("audit_second_writer")
	}
	return b.put(ctx, name, data, blob.Condition{IfAbsent: missing, IfMatch: etag})
}

// Remove implements audit.Storage.
func (b bucket) Remove(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, b.Delete(ctx, b.folder+name))
	}
	return errors.Join(errs...)
}
