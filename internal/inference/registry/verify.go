package registry

import (
	"slices"
	"time"
)

// Verify returns why a version of a model is not to be served, by the signature of
// its files, nil for none, which it gets with their SHA-256 in hex by name. What
// counts are certificates as they were when the version was registered: one that
// ends takes nothing out of service.
type Verify func(model string, registered time.Time, signature []byte, files map[string]string) error

// Files has the files of a version verified, but for the signature itself. A nil
// Verify takes all.
func (v Verify) Files(model string, registered time.Time, files []File, read func(File) ([]byte, error)) error {
	if v == nil {
		return nil
	}
	digests := map[string]string{}
	for _, f := range files {
		if f.Name != SignatureFile {
			digests[f.Name] = f.SHA256
		}
	}
	var signature []byte
	if i := slices.IndexFunc(files, func(f File) bool { return f.Name == SignatureFile }); i >= 0 {
		var err error
		if signature, err = read(files[i]); err != nil {
			return err
		}
	}
	return v(model, registered, signature, digests)
}
