package upload

import (
	"context"
	"slices"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// defaultPart is how large parts are, in bytes, where clients do not choose: large
// enough that a request costs little beside its bytes.
const defaultPart = 16 << 20

// checkParts validates the parts that a client wants, and chooses their size where
// it does not: so that there are no more of them than a store takes.
func (s *Service) checkParts(ctx context.Context, c *Create) error {
	if !c.Parts {
		if c.PartSize != 0 {
			return fault.New(fault.Unprocessable, "a part size is for uploads in parts: set the mode to parts").WithCode("upload_parts_invalid")
		}
		return nil
	}
	if c.Length < 1 {
		return fault.New(fault.Unprocessable, "an upload in parts says its length, which is 1 byte or more").WithCode("upload_parts_invalid")
	}
	if s.cfg.MaxAppend < blob.MinPartSize && !s.signs(ctx) {
		return fault.New(fault.Unprocessable, "uploads in parts are put to this server, which takes %d bytes in a request, and a part has %d or more: append the content, or set http.max_body to more", s.cfg.MaxAppend, blob.MinPartSize).
			WithCode("upload_parts_invalid")
	}
	largest := max(s.cfg.MaxAppend, blob.MinPartSize)
	least := max(blob.MinPartSize, (c.Length+blob.MaxPart-1)/blob.MaxPart)
	if c.PartSize == 0 {
		c.PartSize = max(min(defaultPart, largest), least)
	}
	if c.PartSize < least || c.PartSize > largest {
		return fault.New(fault.Unprocessable, "parts of %d bytes: expected %d, of which there are %d at most, to %d, which http.max_body allows", c.PartSize, least, blob.MaxPart, largest).
			WithCode("upload_parts_invalid")
	}
	return nil
}

// signs says whether the store signs addresses, so that no part comes through this server.
func (s *Service) signs(ctx context.Context) bool {
	_, err := s.bucket.PresignPart(ctx, blob.Upload{Key: Folder + "none", ID: "none"}, 1, blob.MinPartSize, time.Minute)
	return fault.CodeOf(err) != blob.CodePresign
}

// Slots is of how many parts the upload is made; 0 where it is appended.
func (u *Upload) Slots() int {
	if u.PartSize == 0 {
		return 0
	}
	return int((u.Length + u.PartSize - 1) / u.PartSize)
}

// slot returns the part of a number, of 1 to Slots.
func (u *Upload) slot(number int) Slot {
	offset := int64(number-1) * u.PartSize
	return Slot{Number: number, Offset: offset, Size: min(u.PartSize, u.Length-offset)}
}

// target is the object that parts are put to.
func (u *Upload) target() blob.Upload { return blob.Upload{Key: u.Object, ID: u.Multipart} }

// puts returns why no part can be put, nil where it can.
func (u *Upload) puts(now time.Time) error {
	switch s := u.Now(now); {
	case s == Complete:
		return u.free(now)
	case s != Open:
		return u.Usable(now)
	case u.PartSize == 0:
		return fault.New(fault.Conflict, "the upload is appended to, at the offset that it tells: it has no parts").WithCode("upload_mode")
	}
	return nil
}

// Slot is a part of an upload, and where it is put.
type Slot struct {
	Number  int
	Offset  int64 // where it begins in the content
	Size    int64 // bytes
	Kept    bool  // it has come
	URL     string
	Ticket  *Ticket   // where URL is empty: it is put to this server
	Expires time.Time // of the address
}

// locate asks for an upload that parts can be put to.
type locate struct {
	cqrs.Returns[*Upload]
	id ID
}

func (locate) QueryName() string { return "uploads.parts" }

// start names the object that the parts of an upload are put to.
type start struct {
	cqrs.Returns[*Upload]
	id     ID
	object blob.Upload
}

func (start) CommandName() string         { return "uploads.start" }
func (c start) Target() (kind, id string) { return Uploads.Name, string(c.id) }

// gather makes a request the one that completes an upload of parts.
type gather struct {
	cqrs.Returns[*Upload]
	id     ID
	writer string
}

func (gather) CommandName() string         { return "uploads.complete" }
func (c gather) Target() (kind, id string) { return Uploads.Name, string(c.id) }

func (s *Service) registerParts(b *cqrs.Bus) {
	cqrs.HandleQuery(b, Write, func(ctx context.Context, from repo.Reading, q locate) (*Upload, error) {
		u, err := Uploads.Get(ctx, from, q.id)
		if err == nil {
			err = u.puts(s.store.Now())
		}
		return &u, err
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c start) (*Upload, error) {
		u, err := Uploads.Update(ctx, tx, c.id, func(u *Upload) error {
			if u.Multipart == "" {
				u.Object, u.Multipart = c.object.Key, c.object.ID
			}
			return u.puts(tx.Now())
		})
		return &u, err
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c gather) (*Upload, error) {
		u, err := Uploads.Update(ctx, tx, c.id, func(u *Upload) error {
			if err := u.puts(tx.Now()); err != nil {
				return err
			}
			if err := u.free(tx.Now()); err != nil {
				return err
			}
			u.Writer, u.Until = c.writer, tx.Now().Add(lease)
			return nil
		})
		return &u, err
	})
}

// addressed is for how long a part can be put to its address.
const addressed = time.Hour

// Slots returns the parts of an upload behind a number, at most limit, with fresh
// addresses. Whoever has one can put that part until it expires.
func (s *Service) Slots(ctx context.Context, id ID, after, limit int) (*Upload, []Slot, error) {
	u, err := cqrs.Ask(ctx, s.bus, locate{id: id})
	if err == nil {
		u, err = s.started(ctx, u)
	}
	if err != nil {
		return nil, nil, err
	}
	if after > u.Slots() {
		return nil, nil, fault.New(fault.Invalid, "the cursor %d is behind the %d parts that there are: send the next_cursor of a page, or none", after, u.Slots()).WithCode("invalid_cursor")
	}
	kept, open, err := s.kept(ctx, u)
	if err == nil && !open {
		_, err = s.published(ctx, u)
	}
	if err != nil {
		return nil, nil, err
	}
	expires := s.store.Now().Add(addressed)
	if u.Ends.Before(expires) {
		expires = u.Ends
	}
	var slots []Slot
	for number := after + 1; number <= u.Slots() && len(slots) < limit; number++ {
		slot := u.slot(number)
		slot.Expires = expires
		slot.Kept = !open || slices.ContainsFunc(kept, func(p blob.Part) bool { return p.Number == number && p.Size == slot.Size })
		if err := s.address(ctx, u, &slot); err != nil {
			return nil, nil, err
		}
		slots = append(slots, slot)
	}
	return u, slots, nil
}

// address signs where a part is put: at the store, or at this server where the
// store has none.
func (s *Service) address(ctx context.Context, u *Upload, slot *Slot) (err error) {
	left := max(slot.Expires.Sub(s.store.Now()), time.Second)
	slot.URL, err = s.bucket.PresignPart(ctx, u.target(), slot.Number, slot.Size, left)
	if fault.CodeOf(err) == blob.CodePresign {
		slot.Ticket = s.ticket(u, slot)
		return nil
	}
	return err
}

// started begins the object of an upload where it is not yet. Of several that do,
// one is heard.
func (s *Service) started(ctx context.Context, u *Upload) (*Upload, error) {
	if u.Multipart != "" {
		return u, nil
	}
	object, err := s.bucket.Begin(ctx, name(u), blob.UploadOptions{ContentType: u.ContentType})
	if err != nil {
		return nil, err
	}
	now, err := cqrs.Send(ctx, s.bus, start{id: u.ID, object: object})
	if err != nil || now.Multipart != object.ID {
		_ = s.bucket.Abort(context.WithoutCancel(ctx), object) // else the sweep does it
	}
	return now, err
}

// kept returns the parts that have come, and whether others can: not before the
// upload was started, nor once its parts were published.
func (s *Service) kept(ctx context.Context, u *Upload) (kept []blob.Part, open bool, err error) {
	if u.Multipart == "" {
		return nil, false, nil
	}
	for p, err := range s.bucket.Parts(ctx, u.target()) {
		if fault.CodeOf(err) == blob.CodeUpload {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		kept = append(kept, p)
	}
	return kept, true, nil
}
