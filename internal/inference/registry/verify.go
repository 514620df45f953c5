package registry

import (
	"slices"
	"time"
)

// Verify returns why the signature of a version's files does not allow to serve it. It is
// given the signature, nil for none, and the files' SHA-256 in hex by name. Certificates
// count as they were when the version was registered: one that expires takes nothing out of
// service.
type Verify func(model string, registered time.Time, signature []byte, files map[string]string) error

// Files verifies the files of a version by the signature among them. A nil Verify accepts
// all.
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
