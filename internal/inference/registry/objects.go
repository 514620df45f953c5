package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Open returns the content of a version's file. Of all of it the digest is checked
// on the way.
func Open(ctx context.Context, b blob.Reader, f File) (io.ReadCloser, error) {
	o, err := b.Get(ctx, f.Object, blob.GetOptions{})
	if err != nil {
		return nil, err
	}
	o.Info.SHA256 = f.SHA256 // the store's own may have rotted with the object
	return struct {
		io.Reader
		io.Closer
	}{o.Verified(), o.Body}, nil
}

// ReadFile reads all of a version's file, and fails where it is not what the
// version says.
func ReadFile(ctx context.Context, b blob.Reader, f File) ([]byte, error) {
	r, err := Open(ctx, b, f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := bytes.NewBuffer(make([]byte, 0, f.Bytes+bytes.MinRead))
	if _, err := io.Copy(data, io.LimitReader(r, f.Bytes+1)); err != nil {
		return nil, unreadable(f, err)
	}
	if int64(data.Len()) != f.Bytes {
		return nil, fault.New(fault.Internal, "file %q has another size than the registry says: the object store has damaged it", f.Name).WithCode(blob.CodeChecksum)
	}
	return data.Bytes(), nil
}

func unreadable(f File, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "file %q of a model version cannot be read", f.Name)
}

// Folder is where the objects of versions are, below Root: no tenant can have that
// name.
const (
	Root   = "_platform"
	Folder = "models"
)

func objectName(id ID, random string) string {
	return strings.Join([]string{Root, Folder, string(id), random}, "/")
}

// Owned says whether a version names an object, for blob.SweepOrphans.
func Owned(ctx context.Context, store *repo.Store, root, key string) (bool, error) {
	if root != Root {
		return true, nil // not below this folder
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(key, Root+"/"+Folder+"/"), "/")
	page, err := Versions.Find(ctx, store.Read(repo.Scope{}), spec.Query[Version]{Where: selfField.Eq(ID(id)), Deleted: spec.WithDeleted, Limit: 1})
	if err != nil {
		return true, err
	}
	for _, v := range page.Items {
		for _, f := range v.Files {
			if f.Object == key {
				return true, nil
			}
		}
	}
	return false, nil
}
