package modelrepo

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"sluice/internal/platform/fault"
)

// readChunk is how much is read between two looks at the context.
const readChunk = 4 << 20

// Read returns the whole model file of an entry's version. The file must still
// be the one that the entry was made from, before and after reading: otherwise
// it fails with fault.Conflict, and a new Scan tells what is there now. The
// caller must not change the data.
func (r *Repo) Read(ctx context.Context, e Entry, version int64) ([]byte, error) {
	i := slices.IndexFunc(e.Versions, func(v Version) bool { return v.Number == version })
	if i < 0 {
		return nil, fault.New(fault.NotFound, "model %q has no version %d in the repository", e.Name, version)
	}
	v := e.Versions[i]
	if v.Size > r.limits.ModelBytes {
		return nil, fault.New(fault.TooLarge, "version %d of model %q has %d bytes; at most %d are allowed", version, e.Name, v.Size, r.limits.ModelBytes)
	}
	if v.Path == "" {
		return v.data, nil
	}
	changed := fault.New(fault.Conflict, "version %d of model %q changed while it was being loaded: load it again", version, e.Name)
	f, err := os.Open(v.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, changed
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "version %d of model %q cannot be read", version, e.Name)
	}
	defer f.Close()
	data, err := readExactly(ctx, f, v.Size)
	switch {
	case errors.Is(err, errSize):
		return nil, changed
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, err, "version %d of model %q cannot be read", version, e.Name)
	}
	// The open file and the one under the name now must both be the entry's.
	opened, err := f.Stat()
	if err != nil || stamp(opened) != v.Fingerprint {
		return nil, changed
	}
	if now, err := os.Stat(v.Path); err != nil || stamp(now) != v.Fingerprint {
		return nil, changed
	}
	return data, nil
}

var errSize = errors.New("the file has another size than before")

// readExactly reads size bytes, after which the reader must end.
func readExactly(ctx context.Context, r io.Reader, size int64) ([]byte, error) {
	data := make([]byte, size)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, data[at:min(at+readChunk, size)])
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errSize
		}
		if err != nil {
			return nil, err
		}
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 {
		return nil, errSize
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}
