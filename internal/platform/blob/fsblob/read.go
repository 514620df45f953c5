package fsblob

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Get implements blob.Reader.
func (b *Bucket) Get(ctx context.Context, key string, opts blob.GetOptions) (blob.Object, error) {
	if err := ctx.Err(); err != nil {
		return blob.Object{}, err
	}
	if err := blob.CheckKey(key); err != nil {
		return blob.Object{}, err
	}
	f, err := b.root.Open(key + suffix)
	if err != nil {
		return blob.Object{}, missing(key, err)
	}
	obj, err := open(f, key, opts)
	if err != nil {
		f.Close()
		return blob.Object{}, err
	}
	return obj, nil
}

func open(f *os.File, key string, opts blob.GetOptions) (blob.Object, error) {
	info, err := describe(f, key)
	if err != nil {
		return blob.Object{}, err
	}
	if opts.IfMatch != "" && opts.IfMatch != info.ETag {
		return blob.Object{}, blob.Refused(key, blob.Condition{IfMatch: opts.IfMatch})
	}
	rng, err := opts.Resolve(info.Size)
	if err != nil {
		return blob.Object{}, err
	}
	return blob.Object{Info: info, Range: rng, Body: &body{io.NewSectionReader(f, rng.Offset, rng.Length), f}, At: anywhere{io.NewSectionReader(f, 0, info.Size)}}, nil
}

// anywhere reads a file at any place.
type anywhere struct{ io.ReaderAt }

// ReadAt implements io.ReaderAt.
func (a anywhere) ReadAt(p []byte, at int64) (int, error) {
	n, err := a.ReaderAt.ReadAt(p, at)
	if err != nil && err != io.EOF { //nolint:errorlint // the plain end is passed on
		err = translate(err)
	}
	return n, err
}

// body reads a part of a file.
type body struct {
	*io.SectionReader
	file *os.File
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.SectionReader.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the plain end is passed on
		err = translate(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.file.Close() }

// Stat implements blob.Reader.
func (b *Bucket) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := ctx.Err(); err != nil {
		return blob.Info{}, err
	}
	if err := blob.CheckKey(key); err != nil {
		return blob.Info{}, err
	}
	return b.stat(key+suffix, key)
}

// stat describes the file name as the object key.
func (b *Bucket) stat(name, key string) (blob.Info, error) {
	f, err := b.root.Open(name)
	if err != nil {
		return blob.Info{}, missing(key, err)
	}
	defer f.Close()
	return describe(f, key)
}

func blobMissing(err error) bool { return fault.Is(err, fault.NotFound) }

// List implements blob.Lister. What is deleted meanwhile is left out.
func (b *Bucket) List(ctx context.Context, folder, after string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if err := blob.CheckFolder(folder); err != nil {
			yield(blob.Info{}, err)
			return
		}
		prefix := ""
		if folder != "" {
			prefix = folder + "/"
		}
		w := walk{bucket: b, after: after, yield: yield, ended: ctx.Err}
		if err := w.folder(prefix); err != nil {
			yield(blob.Info{}, err)
		}
	}
}

// walk lists folders in the order of keys.
type walk struct {
	bucket *Bucket
	after  string
	yield  func(blob.Info, error) bool
	ended  func() error
	done   bool
}

// folder lists what is below prefix, which is empty or ends with a slash.
func (w *walk) folder(prefix string) error {
	names, err := w.bucket.names(prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.ended(); err != nil {
			return err
		}
		if strings.HasSuffix(name, "/") {
			// Everything in it is greater than its prefix, and below it.
			if below := prefix + name; below > w.after || strings.HasPrefix(w.after, below) {
				err = w.folder(below)
			}
		} else if key := prefix + name; key > w.after {
			err = w.object(key)
		}
		if err != nil || w.done {
			return err
		}
	}
	return nil
}

func (w *walk) object(key string) error {
	info, err := w.bucket.stat(key+suffix, key)
	if err != nil {
		if blobMissing(err) {
			return nil
		}
		return err
	}
	w.done = !w.yield(info, nil)
	return nil
}

// names returns the parts of keys that follow prefix, in the order of the keys
// that they begin: a folder with its slash, an object without its suffix.
func (b *Bucket) names(prefix string) ([]string, error) {
	entries, err := b.entries(strings.TrimSuffix("./"+prefix, "/"))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		part, object := strings.CutSuffix(e.Name(), suffix)
		switch {
		case part == "" || blob.CheckFolder(part) != nil: // not ours, or the adapter's own
		case object && e.Type().IsRegular():
			names = append(names, part)
		case !object && e.IsDir():
			names = append(names, part+"/")
		}
	}
	slices.Sort(names)
	return names, nil
}

// entries reads a folder, of which one that is not there has none.
func (b *Bucket) entries(dir string) ([]fs.DirEntry, error) {
	d, err := b.root.Open(dir)
	if err != nil {
		if absent(err) {
			return nil, nil
		}
		return nil, translate(err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if absent(err) { // it was removed since, so it was empty
		return nil, nil
	}
	return entries, translate(err)
}
