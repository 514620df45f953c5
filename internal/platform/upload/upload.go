// Package upload takes content of any size into the object store, over several
// requests, each of which may break off: the offset that a client is told is on
// the disk, and it goes on from there (draft-ietf-httpbis-resumable-upload).
//
// An upload is an aggregate, and its bytes are parts of a multipart object, cut
// where the store wants them; what is left over is an object of its own until
// more comes. Bytes first, then the commit that counts them: a crash between the
// two leaves bytes that nobody counts, and which are sent again. One writer at a
// time has an upload; part numbers are given to it and to nobody else, so that one
// that was thought dead can spoil nothing.
//
// An upload of a known length may come in parts instead: each is put to an address
// of its own, in any order and several at a time, past this process where the
// store signs addresses. Who completes it has all of it read once and hashed.
//
// Known limit: addresses that a store signs name the host by which this process
// reaches it.
package upload

import (
	"slices"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// ID is the id of an upload, upl_….
type ID string

// Prefix is how ids of uploads begin.
const Prefix = "upl"

// State is where an upload is on its way.
type State string

// The states. What is complete can be used until it expires.
const (
	Open     State = "open"
	Complete State = "complete"
	Failed   State = "failed" // its content is not what was said
	Expired  State = "expired"
)

// Upload is one upload.
type Upload struct {
	aggregate.Root[ID]
	State       State     `json:"state"`
	Name        string    `json:"name,omitempty"`   // of the client's own
	ContentType string    `json:"content_type"`     // as declared
	Length      int64     `json:"length"`           // bytes in all; -1 while it is not known
	SHA256      string    `json:"sha256,omitempty"` // declared, and of the content once it is complete; hexadecimal
	Offset      int64     `json:"offset"`           // bytes that are kept
	Object      string    `json:"object,omitempty"` // the content's key, or what it will be
	Failure     *Failure  `json:"failure,omitempty"`
	CompletedAt time.Time `json:"completed_at,omitzero"`
	Ends        time.Time `json:"ends"` // when it expires; far in the future once it has
	Keep        time.Time `json:"keep"` // when it is forgotten

	PartSize  int64       `json:"part_size,omitempty"` // bytes, where clients put parts; 0 where they append
	Multipart string      `json:"multipart,omitempty"` // the object's upload in the bucket, once there is one
	Parts     []blob.Part `json:"parts,omitempty"`
	Given     int         `json:"given,omitempty"`     // the last part number that a writer was given
	Tail      string      `json:"tail,omitempty"`      // the object with the bytes behind the parts
	TailSize  int64       `json:"tail_size,omitempty"` // bytes
	Hash      []byte      `json:"hash,omitempty"`      // the state of SHA-256 after Offset bytes
	Head      []byte      `json:"head,omitempty"`      // the first bytes, by which the type is told
	Writer    string      `json:"writer,omitempty"`    // who appends
	Until     time.Time   `json:"until,omitzero"`      // when it counts as dead
	Wasted    int64       `json:"wasted,omitempty"`    // bytes of parts that do not count, and are in Multipart until it ends
}

// Failure is why an upload failed.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Uploads keeps them.
var Uploads = repo.Kind[ID, Upload]{
	Name: "uploads", Root: func(u *Upload) *aggregate.Root[ID] { return &u.Root },
	Columns: []spec.Column[Upload]{state, ends},
	Expires: func(u *Upload) time.Time { return u.Keep },
}

var (
	state = spec.TextField("state", func(u *Upload) State { return u.State })
	ends  = spec.TimeField("ends", func(u *Upload) time.Time { return u.Ends })
)

// never is the Ends of what has ended.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// remembered is for how long it is told that an upload has expired.
const remembered = 24 * time.Hour

// Changed says that an upload is in another state.
type Changed struct {
	State State `json:"state"`
	Bytes int64 `json:"bytes"`
}

// EventType implements aggregate.Event: upload.open, upload.complete, ….
func (c Changed) EventType() string { return "upload." + string(c.State) }

func (u *Upload) move(s State, ends time.Time) {
	u.State, u.Ends = s, ends
	u.Keep = ends.Add(remembered)
	u.Record(Changed{s, u.Offset})
}

// Now returns the state at a time, whether or not anybody has noted it.
func (u *Upload) Now(now time.Time) State {
	if !now.Before(u.Ends) {
		return Expired
	}
	return u.State
}

// Reserved is how many bytes the upload counts for in its tenant's quota; unknown
// is what it may become where its length is not known.
func (u *Upload) Reserved(unknown int64) int64 {
	switch u.State {
	case Failed, Expired:
		return 0
	case Complete:
		return u.Offset
	}
	return u.whole(unknown) + u.Wasted
}

// whole is how many bytes an open upload may become.
func (u *Upload) whole(unknown int64) int64 {
	if u.Length < 0 {
		return unknown
	}
	return u.Length
}

// Usable returns why the content cannot be used, nil where it can.
func (u *Upload) Usable(now time.Time) error {
	switch u.Now(now) {
	case Complete:
		return nil
	case Expired:
		return fault.New(fault.Gone, "the upload %s has expired: upload it again", u.ID).WithCode("upload_expired")
	case Failed:
		return fault.New(fault.Conflict, "the upload %s has failed: %s", u.ID, u.Failure.Message).WithCode("upload_failed")
	}
	if u.PartSize > 0 {
		return fault.New(fault.Conflict, "the upload %s is not complete: put its parts, and complete it", u.ID).WithCode("upload_incomplete")
	}
	return fault.New(fault.Conflict, "the upload %s is not complete: it has %d bytes so far", u.ID, u.Offset).WithCode("upload_incomplete")
}

// lease is how long a writer may give no sign of life.
const lease = 20 * time.Second

var errLost = fault.New(fault.Conflict, "another request appends to the upload since: ask for its offset").WithCode("upload_busy")

// Take makes somebody the writer who appends at offset, and gives it part numbers.
// What is sent in vain may not be more than the upload may become, see Reserved.
func (u *Upload) Take(writer string, offset int64, numbers int, unknown int64, now time.Time) error {
	if err := u.free(now); err != nil {
		return err
	}
	switch {
	case u.PartSize > 0:
		return fault.New(fault.Conflict, "the upload is made of parts, which are put to addresses of their own: nothing can be appended").WithCode("upload_mode")
	case offset != u.Offset:
		return fault.New(fault.Conflict, "the upload has %d bytes, and the request goes on at %d", u.Offset, offset).WithCode("upload_offset_mismatch")
	case u.Given+numbers > blob.MaxPart:
		return fault.New(fault.TooLarge, "the upload came in too many pieces: begin it again with larger ones").WithCode("upload_too_many_parts")
	case u.Wasted > u.whole(unknown):
		return fault.New(fault.TooLarge, "%d bytes of the upload came with another digest than was said: begin it again", u.Wasted).WithCode("upload_wasteful")
	}
	u.Writer, u.Until = writer, now.Add(lease)
	u.Given += numbers
	return nil
}

// free returns why nobody can become the writer now, nil where somebody can.
func (u *Upload) free(now time.Time) error {
	switch s := u.Now(now); {
	case s == Complete:
		return fault.New(fault.Conflict, "the upload is complete: nothing can be added").WithCode("upload_complete")
	case s != Open:
		return u.Usable(now)
	case u.Writer != "" && now.Before(u.Until):
		return fault.New(fault.Conflict, "another request appends to the upload, or completes it: wait for its end").WithCode("upload_busy").WithRetryAfter(u.Until.Sub(now))
	}
	return nil
}

// progress is what a writer has made of an upload so far.
type progress struct {
	Object, Multipart string
	Parts             []blob.Part // of this writer
	Tail              string
	TailSize, Offset  int64
	Hash, Head        []byte
}

// Advance counts what a writer has kept, and lets go of the upload at its end.
func (u *Upload) Advance(writer string, p progress, end bool, now time.Time) error {
	if u.Writer != writer || u.State != Open {
		return errLost
	}
	for _, part := range p.Parts {
		if !u.has(part) {
			u.Parts = append(u.Parts, part)
		}
	}
	u.Object, u.Multipart, u.Tail, u.TailSize, u.Offset, u.Hash, u.Head = p.Object, p.Multipart, p.Tail, p.TailSize, p.Offset, p.Hash, p.Head
	if u.Until = now.Add(lease); end {
		u.Writer, u.Until = "", time.Time{}
	}
	return nil
}

// Renew says that the writer is alive.
func (u *Upload) Renew(writer string, now time.Time) error {
	if u.Writer != writer || u.State != Open {
		return errLost
	}
	u.Until = now.Add(lease)
	return nil
}

// Release lets go of the upload and counts nothing but what was in vain.
func (u *Upload) Release(writer string, p progress) {
	if u.Writer != writer {
		return
	}
	u.Writer, u.Until = "", time.Time{}
	if u.Multipart != p.Multipart {
		return
	}
	for _, part := range p.Parts {
		if !u.has(part) {
			u.Wasted += part.Size
		}
	}
}

func (u *Upload) has(part blob.Part) bool {
	return slices.ContainsFunc(u.Parts, func(o blob.Part) bool { return o.Number == part.Number })
}

// Finish makes the content usable until it expires.
func (u *Upload) Finish(writer, sha256 string, now time.Time, keep time.Duration) error {
	if u.Writer != writer || u.State != Open {
		return errLost
	}
	u.Length, u.SHA256, u.CompletedAt = u.Offset, sha256, now
	u.forget()
	u.move(Complete, now.Add(keep))
	return nil
}

// Fail ends the upload because its content is not what was said.
func (u *Upload) Fail(writer string, f Failure, now time.Time) error {
	if u.Writer != writer || u.State != Open {
		return errLost
	}
	u.Failure, u.Object = &f, ""
	u.forget()
	u.move(Failed, now.Add(remembered))
	return nil
}

// Expire ends an upload whose time is over; it names no object from then on. It
// returns whether it did.
func (u *Upload) Expire(now time.Time) bool {
	if u.State == Expired || now.Before(u.Ends) {
		return false
	}
	u.Object = ""
	u.forget()
	u.move(Expired, never)
	u.Keep = now.Add(remembered)
	return true
}

// forget drops what only an open upload needs.
func (u *Upload) forget() {
	u.Multipart, u.Parts, u.Tail, u.TailSize, u.Hash, u.Head, u.Writer, u.Until, u.Wasted = "", nil, "", 0, nil, nil, "", time.Time{}, 0
}
