// Package blob keeps objects: bytes under a name, written whole and read whole
// or in ranges. Model files, uploads, batch results, exports and the tiles of
// the audit log live in it.
//
// The package holds the port, what every adapter shares, and decorators.
// memblob keeps objects in memory, fsblob in a folder, s3blob in MinIO or any
// other S3; package blobtest says what all of them must do.
//
// Known limits: no versions, no locks against deletion (retention is the
// server's setting), no append. A key has two parts at least, of which the
// first is the tenant or another name space, and no character beyond ASCII.
// Lists need not carry content type, digest and metadata, as S3 does not list
// them.
package blob

import (
	"context"
	"io"
	"iter"
	"time"
)

// Bucket is everything that an adapter offers. Users ask for the part they need.
//
// Errors are classified by package fault: NotFound; Conflict with
// CodePrecondition; Invalid; Internal or Invalid with CodeChecksum; Unavailable
// with CodeFull or CodeUnavailable. A write that fails with Unavailable, or
// because its context ended, may have taken place: see Writer.
type Bucket interface {
	Reader
	Writer
	Lister
	Copier
	Multipart
	UploadLister
	Presigner
}

// Reader reads objects.
type Reader interface {
	// Get opens an object, or a range of it. The body is of one version of the
	// object, whatever happens to its key meanwhile; it must be closed, and ends
	// with ctx.
	Get(ctx context.Context, key string, opts GetOptions) (Object, error)
	// Stat describes an object.
	Stat(ctx context.Context, key string) (Info, error)
}

// Writer writes and deletes objects.
type Writer interface {
	// Put writes an object, or replaces it: readers see the old or the new one,
	// whole. It has reached the disk when Put returns. A body that fails, or is
	// not what opts said, leaves nothing.
	//
	// Where the outcome of a conditional put is not known (see Bucket), the next
	// attempt may meet its own success as CodePrecondition: compare the digest.
	Put(ctx context.Context, key string, body io.Reader, opts PutOptions) (Info, error)
	// Delete removes an object. One that does not exist is no error.
	Delete(ctx context.Context, key string) error
}

// Lister finds objects.
type Lister interface {
	// List yields the objects whose keys are below the folder ("" for all) and
	// greater than after, in the byte order of keys. It fetches pages as needed.
	// What exists during the whole listing is listed once; what comes or goes
	// meanwhile may be or not. After an error nothing more is yielded.
	//
	// A folder is whole parts: "acme" does not list "acme2/x".
	List(ctx context.Context, folder, after string) iter.Seq2[Info, error]
}

// Copier copies objects without moving their bytes through this process.
type Copier interface {
	// Copy makes or replaces the object to, with the content, type and metadata
	// of from. A digest that the caller has computed is kept as the copy's where
	// from has none; where from has another, the copy is refused with
	// CodeChecksum. It may be empty. The copy's Modified is when it was made, not
	// that of from: SweepOrphans spares what is new. That of from may become the same.
	Copy(ctx context.Context, from, to, sha256 string) (Info, error)
}

// Multipart writes an object in parts, over hours, restarts and several
// processes, and publishes it with one commit. An Upload is a plain value: its
// Key and ID are all that another process needs to go on.
type Multipart interface {
	// Begin starts an upload. Nothing is seen under the key until it is complete.
	Begin(ctx context.Context, key string, opts UploadOptions) (Upload, error)
	// Part stores a part, of number 1 to MaxPart, in any order. The same number
	// again replaces the part.
	Part(ctx context.Context, up Upload, number int, body io.Reader, opts PartOptions) (Part, error)
	// Complete publishes the parts, in the order of their numbers, and ends the
	// upload: a second Complete is NotFound with CodeUpload. Every part but the
	// last has MinPartSize bytes or more. When it fails the upload lives on.
	Complete(ctx context.Context, up Upload, parts []Part, cond Condition) (Info, error)
	// Abort drops the upload and its parts. One that does not exist is no error.
	Abort(ctx context.Context, up Upload) error
}

// UploadLister finds what uploads have left.
type UploadLister interface {
	// Uploads yields the unfinished uploads to keys below the folder.
	Uploads(ctx context.Context, folder string) iter.Seq2[Upload, error]
	// Parts yields the parts that an upload has, by number.
	Parts(ctx context.Context, up Upload) iter.Seq2[Part, error]
}

// Presigner lets clients talk to the store directly, without credentials.
type Presigner interface {
	// PresignGet returns an address that downloads the object until it expires.
	// Browsers save it as the file name, if that is not empty. Whoever has the
	// address has the object: it belongs in no log. An adapter without a server
	// of its own answers Unsupported: serve the bytes instead.
	PresignGet(ctx context.Context, key string, expires time.Duration, fileName string) (string, error)
	// PresignPut returns an address that writes the object until it expires.
	// Neither size nor content of what is written there is checked.
	PresignPut(ctx context.Context, key string, expires time.Duration) (string, error)
	// PresignPart returns an address that stores a part of an upload, of exactly
	// size bytes: the request must say that Content-Length.
	PresignPart(ctx context.Context, up Upload, number int, size int64, expires time.Duration) (string, error)
}

// Info describes an object.
type Info struct {
	Key  string
	Size int64 // bytes
	// SHA256 is the content's digest in lower-case hexadecimal; empty where it is
	// not known, as with multipart uploads to S3.
	SHA256 string
	// ETag changes with the content. It is opaque, and without quotes.
	ETag        string
	ContentType string
	Modified    time.Time
	Metadata    map[string]string // nil if empty
}

// Object is an opened object.
type Object struct {
	Info Info
	// Range is what Body holds, resolved: no negative offset, the exact length.
	Range Range
	Body  io.ReadCloser
	// At reads all of the object, at any place, until Body is closed; nil where the store cannot.
	At io.ReaderAt
}

// Upload is an unfinished multipart upload.
type Upload struct {
	Key     string
	ID      string    // opaque
	Started time.Time // zero where the caller made the value
}

// Part is a stored part of an upload.
type Part struct {
	Number int
	Size   int64  // bytes
	ETag   string // opaque
}
