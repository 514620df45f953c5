package blob

import (
	"time"

	"sluice/internal/platform/fault"
)

// Codes of the errors that callers tell apart.
const (
	CodePrecondition = "precondition_failed"   // Conflict: the Condition did not hold
	CodeChecksum     = "checksum_mismatch"     // Invalid when writing, Internal when reading what has rotted
	CodeSize         = "size_mismatch"         // Invalid: the body is shorter or longer than was said
	CodeRange        = "range_not_satisfiable" // Invalid
	CodePart         = "invalid_part"          // Invalid: Complete names a part that is not there, or too small
	CodeUpload       = "upload_not_found"      // NotFound: completed, aborted, or never begun
	CodeFull         = "storage_full"          // Unavailable
	CodeUnavailable  = "storage_unavailable"   // Unavailable: no connection, a timeout, or a server in trouble
	CodePresign      = "presign_not_supported" // Unsupported
)

// retryAfter is the hint of errors that end when an operator or a network acts.
const retryAfter = 5 * time.Second

// The errors below are made by adapters, so that all say the same.

// NoObject says that no object has the key.
func NoObject(key string) error {
	return fault.New(fault.NotFound, "no object has the key %q", key)
}

// NoUpload says that the upload is not there.
func NoUpload(up Upload) error {
	return fault.New(fault.NotFound, "no upload to %q has this id: it was completed, aborted or never begun", up.Key).WithCode(CodeUpload)
}

// Refused says that the condition of a write, or the ETag of a read, did not hold.
func Refused(key string, c Condition) error {
	if c.IfAbsent {
		return fault.New(fault.Conflict, "an object with the key %q exists", key).WithCode(CodePrecondition)
	}
	return fault.New(fault.Conflict, "the object %q is not there with the expected ETag: read it again", key).WithCode(CodePrecondition)
}

// BadPart says that the part of a Complete is not what was stored.
func BadPart(number int) error {
	return badPart("part %d is not there with this ETag: send it again", number)
}

// Rotten says that a stored object is not what was written.
func Rotten(key, why string) error {
	return fault.New(fault.Internal, "the object %q is damaged: %s; restore it from a copy", key, why).WithCode(CodeChecksum)
}

// Full says that the store has no room.
func Full(cause error) error {
	return fault.Wrap(fault.Unavailable, cause, "the object store is full: free or add space").
		WithCode(CodeFull).WithRetryAfter(retryAfter)
}

// Unavailable says that the store cannot be reached or cannot work.
func Unavailable(cause error) error {
	return fault.Wrap(fault.Unavailable, cause, "the object store is not available: retry").
		WithCode(CodeUnavailable).WithRetryAfter(retryAfter)
}

// NoPresign says that the adapter has no server that clients could talk to.
func NoPresign() error {
	return fault.New(fault.Unsupported, "this object store signs no addresses: read and write through the API").WithCode(CodePresign)
}

func wrongSum(want, got string) error {
	return fault.New(fault.Invalid, "the content's SHA-256 is %s, expected %s: send it again", got, want).WithCode(CodeChecksum)
}

func wrongSize(want, got int64, more bool) error {
	what := "ends after"
	if more {
		what = "goes on after"
	}
	return fault.New(fault.Invalid, "the content %s %d bytes, expected %d: send it again", what, got, want).WithCode(CodeSize)
}

// OtherSum says that the object to copy does not have the digest that the caller expects.
func OtherSum(key, has, want string) error {
	return fault.New(fault.Invalid, "the object %q has the SHA-256 %s, expected %s", key, has, want).WithCode(CodeChecksum)
}

func badRange(r Range, size int64) error {
	return fault.New(fault.Invalid, "the object of %d bytes has no range of %d bytes from %d", size, r.Length, r.Offset).WithCode(CodeRange)
}

func badPart(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode(CodePart)
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode("invalid_object_options")
}
