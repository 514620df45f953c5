package upload

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Ticket lets whoever has it put one part of an upload to this server, as an
// address does that a store signs.
type Ticket struct {
	Tenant    string
	ID        ID
	Number    int
	Expires   time.Time // whole seconds count
	Signature string
}

func (s *Service) ticket(u *Upload, slot *Slot) *Ticket {
	t := &Ticket{Tenant: u.Tenant, ID: u.ID, Number: slot.Number, Expires: slot.Expires}
	t.Signature = s.sign(t)
	return t
}

// sign returns the HMAC-SHA-256 of what a ticket says.
func (s *Service) sign(t *Ticket) string {
	mac := hmac.New(sha256.New, s.cfg.AddressKey)
	fmt.Fprintf(mac, "PUT %q %q %d %d", t.Tenant, t.ID, t.Number, t.Expires.Unix())
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Put stores a part that a ticket is for. Length is what the request says of its
// body; -1 is unknown.
func (s *Service) Put(ctx context.Context, t Ticket, length int64, body io.Reader) (blob.Part, error) {
	now := s.store.Now()
	if !hmac.Equal([]byte(t.Signature), []byte(s.sign(&t))) || !now.Before(t.Expires) {
		return blob.Part{}, fault.New(fault.PermissionDenied, "the address of the part is not valid, or not any more: ask for the upload's parts again").WithCode("upload_address")
	}
	u, err := Uploads.Get(ctx, s.store.Read(repo.Scope{Tenant: t.Tenant}), t.ID)
	if err == nil {
		err = u.puts(now)
	}
	if err != nil {
		return blob.Part{}, err
	}
	slot := u.slot(t.Number)
	if length >= 0 && length != slot.Size {
		return blob.Part{}, fault.New(fault.Invalid, "part %d of the upload has %d bytes, and the request %d", t.Number, slot.Size, length).WithCode(blob.CodeSize)
	}
	leave, err := s.admit(t.Tenant)
	if err != nil {
		return blob.Part{}, err
	}
	defer leave()
	s.metrics.writing.Inc()
	defer s.metrics.writing.Dec()
	p, err := s.bucket.Part(ctx, u.target(), t.Number, body, blob.PartOptions{Size: slot.Size})
	if fault.CodeOf(err) == blob.CodeUpload {
		return p, fault.Wrap(fault.Conflict, err, "the upload was completed or deleted meanwhile").WithCode("upload_complete")
	}
	return p, err
}
