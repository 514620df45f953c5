package job

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Message is a question or an answer in a form of the Open Inference Protocol.
type Message struct {
	Body []byte
	// Text is how many bytes of Body are JSON, before binary tensors, as in the header
	// Inference-Header-Content-Length; such a question is answered in the form that it asks
	// for. Nil is JSON that is answered by JSON.
	Text *int
}

// Payload is a kept Message: in line where it is small, and otherwise an object.
type Payload struct {
	Inline json.RawMessage `json:"inline,omitempty"`
	Raw    []byte          `json:"raw,omitempty"`    // in line, of a Message that is not all JSON
	Text   *int            `json:"text,omitempty"`   // see Message
	Object string          `json:"object,omitempty"` // its key
	SHA256 string          `json:"sha256,omitempty"`
	Bytes  int64           `json:"bytes,omitempty"`
}

// Owner is the prediction that a payload is of.
type Owner struct {
	Tenant string
	ID     ID
}

// Payloads keeps what models get and give.
//
// Each object is written for one prediction, under a name that is never used again: two
// attempts write two objects, of which the prediction names at most one. So an object ends
// with the prediction that names it, and needs no reference count; see Owned for objects
// that no prediction names.
type Payloads interface {
	// Save keeps a message for a prediction, which must name it within minutes.
	Save(ctx context.Context, of Owner, m Message) (Payload, error)
	// Load returns a payload's bytes.
	Load(ctx context.Context, p Payload) ([]byte, error)
	// Open returns a payload's bytes from offset on, at least length of them. Where that is
	// all of them their digest is checked.
	Open(ctx context.Context, p Payload, offset, length int64) (io.ReadCloser, error)
	// Drop deletes a payload that its prediction will never name. Where that fails the sweep
	// deletes it.
	Drop(ctx context.Context, p Payload)
}

// MaxInline is the largest payload that is kept in the store itself.
const MaxInline = 64 << 10

// objects is what payloads need of a bucket.
type objects interface {
	blob.Reader
	blob.Writer
}

// bucket keeps large payloads as objects.
type bucket struct{ objects }

// NewPayloads returns payloads whose large ones lie in a bucket.
func NewPayloads(b objects) Payloads { return bucket{b} }

// Folder is where the objects of predictions are, below their tenants'.
const Folder = "predictions"

// Save implements Payloads.
func (b bucket) Save(ctx context.Context, of Owner, m Message) (Payload, error) {
	sum := sha256.Sum256(m.Body)
	p := Payload{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(m.Body)), Text: m.Text}
	contentType := "application/json"
	if m.Text != nil {
		contentType = blob.DefaultContentType
	}
	switch {
	case len(m.Body) > MaxInline:
	case m.Text != nil:
		p.Raw = m.Body
		return p, nil
	default:
		p.Inline = m.Body
		return p, nil
	}
	p.Object = strings.Join([]string{of.Tenant, Folder, string(of.ID), repo.RandomName()}, "/")
	_, err := b.Put(ctx, p.Object, bytes.NewReader(m.Body), blob.PutOptions{
		UploadOptions: blob.UploadOptions{ContentType: contentType}, PartOptions: blob.PartOptions{Size: p.Bytes, SHA256: p.SHA256},
	})
	return p, err
}

// Load implements Payloads.
func (b bucket) Load(ctx context.Context, p Payload) ([]byte, error) {
	body, err := b.Open(ctx, p, 0, p.Bytes)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, p.Bytes)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, unreadable(err)
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(body, 1)); n > 0 || err != nil {
		return nil, unreadable(err)
	}
	return data, nil
}

// unreadable classifies what went wrong while an object was read.
func unreadable(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "the object of a prediction cannot be read")
}

// Open implements Payloads.
func (b bucket) Open(ctx context.Context, p Payload, offset, length int64) (io.ReadCloser, error) {
	if p.Object == "" {
		data := []byte(p.Inline)
		if p.Text != nil {
			data = p.Raw
		}
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
	}
	o, err := b.Get(ctx, p.Object, blob.GetOptions{Range: blob.Range{Offset: offset, Length: length}})
	if err != nil {
		return nil, err
	}
	o.Info.SHA256 = p.SHA256 // the store's own may have rotted with the object
	return verified{o.Verified(), o.Body}, nil
}

// verified is an object's body whose end is an error where it is damaged.
type verified struct {
	io.Reader
	io.Closer
}

// Drop implements Payloads.
func (b bucket) Drop(ctx context.Context, p Payload) {
	if p.Object != "" {
		_ = b.Delete(context.WithoutCancel(ctx), p.Object)
	}
}

// Owned reports whether the prediction that an object was written for names it, for
// blob.SweepOrphans: an old object that is not owned never will be. An object also loses its
// owner when its prediction is forgotten.
func Owned(ctx context.Context, store *repo.Store, tenant, key string) (bool, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, tenant+"/"+Folder+"/"), "/")
	p, err := Predictions.Get(ctx, store.Read(repo.Scope{Tenant: tenant}), ID(id))
	if errors.Is(err, repo.ErrNotFound) || fault.CodeOf(err) == "invalid_id" {
		return false, nil
	}
	return err != nil || p.Input.Object == key || p.Output.Object == key, err
}
