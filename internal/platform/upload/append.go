package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// Append is one request's content.
type Append struct {
	Offset int64  // where it goes on
	Length int64  // of Body; -1 where it is not known
	Last   bool   // the upload is complete with it
	SHA256 string // of Body, in hexadecimal; then all of it counts, or nothing; empty is not known
	Body   io.Reader
}

// What keeping what has arrived may take, whether or not the client is still
// there: settleTime, and to complete an upload what a slow disk needs to copy it.
const (
	settleTime = 30 * time.Second
	copyRate   = 8 << 20 // bytes a second
)

// settling returns a context for work on so many bytes, which outlives the request.
func settling(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTime+time.Duration(size/copyRate)*time.Second)
}

// Append appends a request's content, and completes the upload with the last. It
// returns the upload as it is then, if it is known, also with an error: what
// arrived of a request that broke off is kept, unless a digest was given for all.
func (s *Service) Append(ctx context.Context, id ID, a Append) (*Upload, error) {
	leave, err := s.admit(tenantOf(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	numbers := (min(max(a.Length, 0), s.cfg.MaxAppend)+pieceSize)/pieceSize + 1
	if a.Length < 0 {
		numbers = s.cfg.MaxAppend/pieceSize + 2
	}
	u, err := cqrs.Send(ctx, s.bus, begin{id: id, writer: repo.RandomName(), offset: a.Offset, numbers: int(numbers)})
	if err != nil {
		now, _ := s.Find(ctx, id)
		return now, err
	}
	s.metrics.writing.Inc()
	defer s.metrics.writing.Dec()
	w := &writer{service: s, upload: u, next: u.Given - int(numbers) + 1, all: a.SHA256 != "", content: sha256.New()}
	w.buffer = s.pieces.Get().(*bytes.Buffer)
	defer func() { w.buffer.Reset(); s.pieces.Put(w.buffer) }()
	err = w.append(ctx, a)
	if err == nil {
		err = w.end(ctx, a)
	}
	if err != nil {
		err = w.giveUp(ctx, a, err)
	}
	return w.upload, err
}

// writer is a request that appends to an upload.
type writer struct {
	service *Service
	upload  *Upload // as it was committed last
	progress
	next    int       // part number
	hash    hash.Hash // of all bytes
	content hash.Hash // of the request's
	buffer  *bytes.Buffer
	all     bool // nothing counts before all was checked
}

// append keeps whole pieces of the body as they arrive; the rest is in the buffer.
func (w *writer) append(ctx context.Context, a Append) error {
	if err := w.resume(ctx); err != nil {
		return err
	}
	limit := w.service.cfg.MaxSize
	if w.upload.Length >= 0 {
		limit = w.upload.Length
	}
	if a.Length > 0 && a.Offset+a.Length > limit {
		return w.tooLong(limit)
	}
	if a.Length <= 0 || a.Length >= pieceSize { // it would grow to twice as much
		w.buffer.Grow(pieceSize + bytes.MinRead - w.buffer.Len())
	}
	body := io.TeeReader(io.LimitReader(a.Body, limit-w.Offset+1), io.MultiWriter(w.hash, w.content))
	for {
		n, err := io.CopyN(w.buffer, body, pieceSize-int64(w.buffer.Len()))
		w.Offset += n
		w.service.metrics.bytes.Add(float64(n))
		if len(w.Head) < headSize && len(w.Parts) == 0 && len(w.upload.Parts) == 0 {
			w.Head = bytes.Clone(w.buffer.Bytes()[:min(headSize, w.buffer.Len())])
		}
		switch {
		case w.Offset > limit:
			return w.tooLong(limit)
		case err == io.EOF: //nolint:errorlint // only the plain end is one
			return nil
		case err != nil:
			return err
		}
		if err := w.part(ctx); err != nil {
			return err
		}
		if !w.all {
			if err := w.commit(ctx, false); err != nil {
				return err
			}
		}
	}
}

func (w *writer) tooLong(limit int64) error {
	return fault.New(fault.TooLarge, "the upload is longer than %d bytes, which was said or is allowed", limit).WithCode("upload_too_large")
}

// resume takes up where the upload was left.
func (w *writer) resume(ctx context.Context) error {
	u := w.upload
	w.progress = progress{Object: u.Object, Multipart: u.Multipart, Tail: u.Tail, TailSize: u.TailSize, Offset: u.Offset, Hash: u.Hash, Head: u.Head}
	w.hash = sha256.New()
	if len(u.Hash) > 0 {
		if err := w.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(u.Hash); err != nil {
			return fault.Wrap(fault.Internal, err, "the upload's digest cannot be taken up")
		}
	}
	if u.Tail == "" {
		return nil
	}
	o, err := w.service.bucket.Get(ctx, u.Tail, blob.GetOptions{})
	if err != nil {
		return err
	}
	defer o.Body.Close()
	if n, err := io.Copy(w.buffer, io.LimitReader(o.Verified(), u.TailSize+1)); err != nil || n != u.TailSize {
		return fault.Wrap(fault.Internal, err, "what was kept of the upload cannot be read")
	}
	return nil
}

// part keeps what is in the buffer as a part.
func (w *writer) part(ctx context.Context) error {
	if w.Multipart == "" {
		w.Object = name(w.upload)
		up, err := w.service.bucket.Begin(ctx, w.Object, blob.UploadOptions{ContentType: w.upload.ContentType})
		if err != nil {
			return err
		}
		w.Multipart = up.ID
	}
	part, err := w.service.bucket.Part(ctx, w.target(), w.next, bytes.NewReader(w.buffer.Bytes()), blob.PartOptions{Size: int64(w.buffer.Len())})
	if err != nil {
		return err
	}
	w.next++
	w.progress.Parts = append(w.progress.Parts, part)
	w.Tail, w.TailSize = "", 0
	w.buffer.Reset()
	return nil
}

func (w *writer) target() blob.Upload { return blob.Upload{Key: w.Object, ID: w.Multipart} }

func (w *writer) scope() repo.Scope {
	return repo.Scope{Tenant: w.upload.Tenant, Actor: w.upload.UpdatedBy}
}

// change has a change made to the upload in the store.
func (w *writer) change(ctx context.Context, change func(u *Upload, now time.Time) error) error {
	return w.service.store.Do(ctx, w.scope(), func(ctx context.Context, tx *repo.Tx) error {
		u, err := Uploads.Update(ctx, tx, w.upload.ID, func(u *Upload) error { return change(u, tx.Now()) })
		if err == nil {
			w.upload = &u
		}
		return err
	})
}

// commit counts what was kept. The object that a tail was in goes once none is
// counted, or another.
func (w *writer) commit(ctx context.Context, end bool) error {
	state, err := w.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the upload's digest cannot be kept")
	}
	w.progress.Hash = state
	p, old, writer := w.progress, w.upload.Tail, w.upload.Writer
	if err := w.change(ctx, func(u *Upload, now time.Time) error { return u.Advance(writer, p, end, now) }); err != nil {
		return err
	}
	if old != "" && old != p.Tail {
		_ = w.service.bucket.Delete(ctx, old) // else the sweep does it
	}
	return nil
}

// keep keeps what is in the buffer, as a part where it is large enough for one.
func (w *writer) keep(ctx context.Context) error {
	switch n := int64(w.buffer.Len()); {
	case n == 0 || n == w.TailSize:
		return nil // nothing, or nothing new
	case n >= blob.MinPartSize:
		return w.part(ctx)
	default:
		key := name(w.upload)
		if _, err := w.service.bucket.Put(ctx, key, bytes.NewReader(w.buffer.Bytes()), blob.PutOptions{PartOptions: blob.PartOptions{Size: n}}); err != nil {
			return err
		}
		w.Tail, w.TailSize = key, n
		return nil
	}
}

// giveUp ends an append that broke off: what has arrived is kept, so far as that
// can be. It returns why it broke off.
func (w *writer) giveUp(ctx context.Context, a Append, cause error) error {
	ctx, cancel := settling(ctx, 0)
	defer cancel()
	writer := w.upload.Writer
	switch {
	case errors.Is(cause, errLost), errors.Is(cause, repo.ErrNotFound), w.upload.State != Open:
		return cause
	case fault.CodeOf(cause) == blob.CodeUpload:
		return w.adopt(ctx, a, cause)
	case fault.CodeOf(cause) == "upload_too_large" && w.Offset > a.Offset: // the draft's rule: such an upload is no good any more
		return w.fail(ctx, cause)
	case !w.all && w.hash != nil && fault.CodeOf(cause) != "upload_too_large" && w.keep(ctx) == nil && w.commit(ctx, true) == nil:
		return cause
	}
	p := w.progress
	err := w.change(ctx, func(u *Upload, _ time.Time) error { u.Release(writer, p); return nil }) // else its time ends
	if err == nil && w.Multipart != "" && w.upload.Multipart != w.Multipart {
		_ = w.service.bucket.Abort(ctx, w.target()) // nothing names it; else the sweep does it
	}
	return cause
}

// end ends an append of which all has arrived.
func (w *writer) end(ctx context.Context, a Append) error {
	if a.SHA256 != "" && hex.EncodeToString(w.content.Sum(nil)) != a.SHA256 {
		return fault.New(fault.Invalid, "the content does not have the digest of Content-Digest: nothing of it was kept, send it again").WithCode(blob.CodeChecksum)
	}
	if a.Last && w.upload.Length >= 0 && w.Offset != w.upload.Length {
		w.all = false
		return fault.New(fault.Invalid, "the upload was to have %d bytes, and would be complete with %d", w.upload.Length, w.Offset).WithCode("upload_length_mismatch")
	}
	size := int64(0)
	if a.Last {
		size = w.Offset
	}
	ctx, cancel := settling(ctx, size)
	defer cancel()
	if a.Last {
		return w.complete(ctx)
	}
	if err := w.keep(ctx); err != nil {
		return err
	}
	return w.commit(ctx, true)
}

// complete checks the content and publishes it.
func (w *writer) complete(ctx context.Context) error {
	sum := hex.EncodeToString(w.hash.Sum(nil))
	if want := w.upload.SHA256; want != "" && want != sum {
		return w.fail(ctx, fault.New(fault.Unprocessable, "the content's SHA-256 is %s, and %s was said", sum, want).WithCode("upload_checksum"))
	}
	if err := fits(w.upload.ContentType, w.Head); err != nil {
		return w.fail(ctx, err)
	}
	if err := w.publish(ctx, sum); err != nil {
		return err
	}
	return w.finish(ctx, sum)
}

// publish makes one object of what was kept and what is in the buffer.
func (w *writer) publish(ctx context.Context, sum string) error {
	if w.Multipart == "" {
		w.Object = name(w.upload)
		_, err := w.service.bucket.Put(ctx, w.Object, bytes.NewReader(w.buffer.Bytes()), blob.PutOptions{
			UploadOptions: blob.UploadOptions{ContentType: w.upload.ContentType}, PartOptions: blob.PartOptions{Size: int64(w.buffer.Len()), SHA256: sum}})
		return err
	}
	if w.buffer.Len() > 0 {
		if err := w.part(ctx); err != nil {
			return err
		}
	}
	// All is counted before it is published: who finds it published, after a
	// crash, knows that it is this.
	if err := w.commit(ctx, false); err != nil {
		return err
	}
	defer w.holding(ctx)()
	_, err := w.service.bucket.Complete(ctx, w.target(), w.upload.Parts, blob.Condition{})
	return err
}

// holding shows that the writer is alive until the function that it returns was
// called.
func (w *writer) holding(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	s, id, writer, scope := w.service, w.upload.ID, w.upload.Writer, w.scope()
	var renewals sync.WaitGroup
	renewals.Go(func() {
		for pause.For(ctx, lease/3); ctx.Err() == nil; pause.For(ctx, lease/3) {
			_ = s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error { // else the next one
				_, err := Uploads.Update(ctx, tx, id, func(u *Upload) error { return u.Renew(writer, tx.Now()) })
				return err
			})
		}
	})
	return func() { cancel(); renewals.Wait() }
}

func (w *writer) finish(ctx context.Context, sum string) error {
	writer, tail := w.upload.Writer, w.upload.Tail
	err := w.change(ctx, func(u *Upload, now time.Time) error {
		u.Object, u.Offset = w.Object, w.Offset
		return u.Finish(writer, sum, now, w.service.cfg.Keep)
	})
	if err != nil {
		return err
	}
	w.service.metrics.ended("complete")
	if tail != "" {
		_ = w.service.bucket.Delete(ctx, tail)
	}
	return nil
}

// fail ends the upload for good.
func (w *writer) fail(ctx context.Context, cause error) error {
	writer, before := w.upload.Writer, *w.upload
	before.Object, before.Multipart = w.Object, w.Multipart
	if err := w.change(ctx, func(u *Upload, now time.Time) error {
		return u.Fail(writer, Failure{fault.CodeOf(cause), fault.Of(cause).Text()}, now)
	}); err != nil {
		return err
	}
	w.service.metrics.ended("failed")
	w.service.drop(ctx, &before)
	return cause
}

// adopt finishes an upload whose parts were published by a process that did not
// get to say so: all of them were counted before.
func (w *writer) adopt(ctx context.Context, a Append, cause error) error {
	u, read := w.upload, w.Offset
	info, err := w.service.bucket.Stat(ctx, u.Object)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err != nil || info.Size != u.Offset {
		return w.fail(ctx, fault.Wrap(fault.Gone, cause, "the upload's parts are gone: upload it again").WithCode("upload_lost"))
	}
	w.hash = sha256.New()
	if err := w.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(u.Hash); err != nil {
		return fault.Wrap(fault.Internal, err, "the upload's digest cannot be taken up")
	}
	w.Object, w.Offset = u.Object, u.Offset
	if err := w.finish(ctx, hex.EncodeToString(w.hash.Sum(nil))); err != nil {
		return err
	}
	if a.Last && read == u.Offset {
		return nil
	}
	return fault.New(fault.Conflict, "the upload is complete: nothing can be added").WithCode("upload_complete")
}
