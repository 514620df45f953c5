package job

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// MaxInline is the largest payload that is kept in the store itself.
const MaxInline = 64 << 10

// objects is what payloads need of a bucket.
type objects interface {
	blob.Reader
	blob.Writer
}

// bucket keeps large payloads as objects that are named by their content: who
// runs an attempt twice writes the same object twice.
type bucket struct{ objects }

// NewPayloads returns payloads whose large ones lie in a bucket.
func NewPayloads(b objects) Payloads { return bucket{b} }

// Save implements Payloads.
func (b bucket) Save(ctx context.Context, tenant string, data []byte) (Payload, error) {
	sum := sha256.Sum256(data)
	p := Payload{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(data))}
	if len(data) <= MaxInline {
		p.Inline = data
		return p, nil
	}
	p.Object = tenant + "/predictions/" + p.SHA256
	_, err := b.Put(ctx, p.Object, bytes.NewReader(data), blob.PutOptions{
		UploadOptions: blob.UploadOptions{ContentType: "application/json"}, PartOptions: blob.PartOptions{Size: p.Bytes, SHA256: p.SHA256},
	})
	return p, err
}

// Load implements Payloads.
func (b bucket) Load(ctx context.Context, p Payload) ([]byte, error) {
	if p.Object == "" {
		return p.Inline, nil
	}
	o, err := b.Get(ctx, p.Object, blob.GetOptions{})
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	data, err := io.ReadAll(io.LimitReader(o.Body, p.Bytes+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the object of a prediction cannot be read")
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.SHA256 {
		return nil, fault.New(fault.Internal, "the object of a prediction is not what was stored").WithCode("checksum_mismatch")
	}
	return data, nil
}
