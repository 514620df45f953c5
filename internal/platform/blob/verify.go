package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"sluice/internal/platform/fault"
)

// Verify reads an object and compares it with its digest: damage is Internal
// with CodeChecksum. An object whose digest is not known is Unsupported.
func Verify(ctx context.Context, r Reader, key string) (Info, error) {
	obj, err := r.Get(ctx, key, GetOptions{})
	if err != nil {
		return Info{}, err
	}
	defer obj.Body.Close()
	if obj.Info.SHA256 == "" {
		return obj.Info, fault.New(fault.Unsupported, "the digest of %q is not known: it cannot be verified", key)
	}
	_, err = io.Copy(io.Discard, obj.Verified())
	return obj.Info, err
}

// Verified returns the body, hashed as it is read: instead of the end of a
// damaged object comes an error, Internal with CodeChecksum. A range, and an
// object whose digest is not known, cannot be verified and is passed on as it is.
func (o Object) Verified() io.Reader {
	if o.Info.SHA256 == "" || o.Range != (Range{Length: o.Info.Size}) {
		return o.Body
	}
	return &verifier{object: o, hash: sha256.New()}
}

type verifier struct {
	object Object
	hash   hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.object.Body.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF {
		if sum := hex.EncodeToString(v.hash.Sum(nil)); sum != v.object.Info.SHA256 {
			return n, Rotten(v.object.Info.Key, "its SHA-256 is "+sum+", expected "+v.object.Info.SHA256)
		}
	}
	return n, err
}
