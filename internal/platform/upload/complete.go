package upload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Completion is what a client says of the parts that it has put.
type Completion struct {
	SHA256 string         // of all, hexadecimal; empty where it is not known, or was said before
	ETags  map[int]string // of parts by their numbers, without quotes; a part that has another is refused
}

// Complete makes the content of the parts that have come, and holds it to what was
// said of it. It returns the upload as it is then, if it is known, also with an
// error. To complete again what is complete is no error.
func (s *Service) Complete(ctx context.Context, id ID, c Completion) (*Upload, error) {
	if err := blob.CheckSHA256(c.SHA256); err != nil {
		return nil, err
	}
	u, err := cqrs.Send(ctx, s.bus, gather{id: id, writer: repo.RandomName()})
	if err != nil {
		now, _ := s.Find(ctx, id)
		if fault.CodeOf(err) == "upload_complete" && now != nil && (c.SHA256 == "" || c.SHA256 == now.SHA256) {
			return now, nil
		}
		return now, err
	}
	ctx, cancel := settling(ctx, 2*u.Length) // a folder copies them, and all is read
	defer cancel()
	w := &writer{service: s, upload: u, progress: progress{Object: u.Object, Multipart: u.Multipart, Offset: u.Length}}
	stop := w.holding(ctx)
	sum, err := w.gather(ctx, c)
	stop()
	switch {
	case err == nil:
		err = w.finish(ctx, sum)
	case fault.Is(err, fault.Unprocessable), fault.Is(err, fault.Gone):
		err = w.fail(ctx, err)
	default:
		writer := w.upload.Writer
		_ = w.change(ctx, func(u *Upload, _ time.Time) error { u.Release(writer, progress{}); return nil }) // else its time ends
	}
	if err == nil {
		s.metrics.bytes.Add(float64(u.Length))
	}
	return w.upload, err
}

// gather publishes the parts and returns the digest of the content. Unprocessable
// or Gone: it is no good, and will not be.
func (w *writer) gather(ctx context.Context, c Completion) (sum string, err error) {
	info, err := w.join(ctx, c)
	if err != nil {
		return "", err
	}
	head, sum, err := w.read(ctx, info)
	if err != nil {
		return "", err
	}
	for _, want := range []string{w.upload.SHA256, c.SHA256} {
		if want != "" && want != sum {
			return "", fault.New(fault.Unprocessable, "the content's SHA-256 is %s, and %s was said", sum, want).WithCode("upload_checksum")
		}
	}
	return sum, fits(w.upload.ContentType, head)
}

// join makes one object of the parts. One that was made before, by a process that
// did not get to say so, is as good.
func (w *writer) join(ctx context.Context, c Completion) (blob.Info, error) {
	parts, open, err := w.service.kept(ctx, w.upload)
	if err != nil {
		return blob.Info{}, err
	}
	if !open && w.Multipart != "" {
		return w.service.published(ctx, w.upload)
	}
	if err := w.upload.match(parts, c.ETags); err != nil {
		return blob.Info{}, err
	}
	info, err := w.service.bucket.Complete(ctx, w.target(), parts, blob.Condition{})
	if fault.CodeOf(err) == blob.CodeUpload {
		return w.service.published(ctx, w.upload)
	}
	return info, err
}

// published returns the object that was made of an upload's parts. Gone: there is
// none, and the parts are not there either.
func (s *Service) published(ctx context.Context, u *Upload) (blob.Info, error) {
	info, err := s.bucket.Stat(ctx, u.Object)
	if fault.Is(err, fault.NotFound) || err == nil && info.Size != u.Length {
		return info, fault.New(fault.Gone, "the upload's parts are gone: upload it again").WithCode("upload_lost")
	}
	return info, err
}

// match returns why the parts are not those of the upload, nil where they are.
func (u *Upload) match(parts []blob.Part, etags map[int]string) error {
	var missing []string
	next := 1
	for _, p := range append(parts, blob.Part{Number: u.Slots() + 1}) {
		for ; next < p.Number && next <= u.Slots(); next++ {
			missing = append(missing, strconv.Itoa(next))
		}
		next++
		if p.Number > u.Slots() {
			continue
		}
		if want := u.slot(p.Number).Size; p.Size != want {
			return fault.New(fault.Conflict, "part %d has %d bytes, expected %d: put it again", p.Number, p.Size, want).WithCode("upload_parts_mismatch")
		}
		if etag, ok := etags[p.Number]; ok && etag != p.ETag {
			return fault.New(fault.Conflict, "part %d has the ETag %s, and %s was said: put it again", p.Number, p.ETag, fault.Clip(etag, 80)).WithCode("upload_parts_mismatch")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	const shown = 20
	more := ""
	if len(missing) > shown {
		more = fmt.Sprintf(" and %d more", len(missing)-shown)
		missing = missing[:shown]
	}
	return fault.New(fault.Conflict, "of the %d parts some have not come: %s%s", u.Slots(), strings.Join(missing, ", "), more).WithCode("upload_incomplete")
}

// read returns the first bytes of the content, and its digest: of all of it, where
// the store has not told one.
func (w *writer) read(ctx context.Context, info blob.Info) (head []byte, sum string, err error) {
	span := blob.Range{}
	if info.SHA256 != "" {
		span.Length = headSize
	}
	o, err := w.service.bucket.Get(ctx, w.Object, blob.GetOptions{Range: span})
	if err != nil {
		return nil, "", err
	}
	defer o.Body.Close()
	hash := sha256.New()
	head, err = io.ReadAll(io.LimitReader(io.TeeReader(o.Body, hash), headSize))
	if err != nil || info.SHA256 != "" {
		return head, info.SHA256, err
	}
	n, err := io.Copy(hash, o.Body)
	if err == nil && n+int64(len(head)) != w.upload.Length {
		err = fault.New(fault.Gone, "the content has %d bytes, expected %d", n+int64(len(head)), w.upload.Length).WithCode("upload_lost")
	}
	return head, hex.EncodeToString(hash.Sum(nil)), err
}
