package fsblob

import (
	"cmp"
	"errors"
	"io/fs"
	"time"
)

// prepare makes the adapter's own folders and removes what crashes have left:
// temporary files that nobody has written to for the age.
func (b *Bucket) prepare(age time.Duration) error {
	if err := cmp.Or(b.makeDirs(tmpDir), b.makeDirs(uploadDir)); err != nil {
		return err
	}
	uploads, err := b.entries(uploadDir)
	if err != nil {
		return err
	}
	for _, e := range uploads {
		_ = b.root.Remove(uploadDir + "/" + e.Name()) // only what is empty: Begin did not get to its file
	}
	entries, err := b.entries(tmpDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return translate(err)
		}
		if b.now().Sub(st.ModTime()) < age {
			continue
		}
		if err := b.root.RemoveAll(tmpDir + "/" + e.Name()); err != nil {
			return translate(err)
		}
	}
	return nil
}
