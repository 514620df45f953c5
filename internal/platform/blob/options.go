package blob

import (
	"encoding/hex"
	"mime"
	"slices"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// Bounds of options and uploads: those of S3.
const (
	MinPartSize = 5 << 20 // bytes, of every part but the last
	MaxPart     = 10_000
	MaxMetadata = 2 << 10            // bytes, names and values together
	MaxExpiry   = 7 * 24 * time.Hour // of presigned addresses
	// DefaultContentType is what an object has whose writer said nothing.
	DefaultContentType = "application/octet-stream"
)

// Condition must hold for a write to take place; the zero value always does.
// The check and the write are one step: of many writers that want to create
// one key, one succeeds.
type Condition struct {
	IfAbsent bool   // no object has the key
	IfMatch  string // the object under the key has this ETag
}

// PutOptions say what is written, and under which condition.
type PutOptions struct {
	UploadOptions
	Condition
	PartOptions
}

// UploadOptions are kept with the object.
type UploadOptions struct {
	ContentType string // DefaultContentType if empty
	// Metadata has names of lower-case letters, digits and hyphens, and values of
	// printable ASCII.
	Metadata map[string]string
}

// PartOptions say what the body must be, so that one which broke off or was
// damaged is refused.
type PartOptions struct {
	Size   int64  // bytes; 0 is unknown
	SHA256 string // lower-case hexadecimal; empty is unknown
}

// GetOptions select what is read.
type GetOptions struct {
	Range
	IfMatch string // fail with CodePrecondition unless the object has this ETag
}

// Range is a run of bytes: from Offset, or from -Offset bytes before the end if
// it is negative; Length of them, or all that follow if it is 0. What reaches
// beyond the end is cut. The zero Range is the whole object.
type Range struct{ Offset, Length int64 }

// Resolve applies the range to an object of size bytes. A range that starts at
// or behind the end is Invalid with CodeRange (RFC 9110, section 14.1.1), save
// that an empty object can be read from its start.
func (r Range) Resolve(size int64) (Range, error) {
	if r.Length < 0 {
		return Range{}, badRange(r, size)
	}
	if r.Offset < 0 {
		r.Offset = max(0, size+r.Offset)
	}
	if r.Offset > 0 && r.Offset >= size {
		return Range{}, badRange(r, size)
	}
	if rest := size - r.Offset; r.Length == 0 || r.Length > rest {
		r.Length = rest
	}
	return r, nil
}

// Check validates the condition.
func (c Condition) Check() error {
	if c.IfAbsent && c.IfMatch != "" {
		return invalid("an object cannot be absent and match an ETag: set one of IfAbsent and IfMatch")
	}
	return nil
}

// Check validates the options.
func (o PutOptions) Check() error {
	for _, err := range []error{o.UploadOptions.Check(), o.Condition.Check(), o.PartOptions.Check()} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Check validates the options.
func (o UploadOptions) Check() error {
	if o.ContentType != "" {
		if _, _, err := mime.ParseMediaType(o.ContentType); err != nil || len(o.ContentType) > 255 || !printable(o.ContentType) {
			return invalid("%q is not a content type, expected one like text/csv of at most 255 bytes", fault.Clip(o.ContentType, 80))
		}
	}
	total := 0
	for name, value := range o.Metadata {
		total += len(name) + len(value)
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasPrefix(name, ReservedMetadata) {
			return invalid("%q is not a name of metadata: expected lower-case letters, digits and hyphens, not starting %q", fault.Clip(name, 80), ReservedMetadata)
		}
		if !printable(value) || strings.TrimSpace(value) != value {
			return invalid("the value of metadata %q must be printable ASCII without spaces around it", name)
		}
	}
	if total > MaxMetadata {
		return invalid("metadata has %d bytes, more than %d", total, MaxMetadata)
	}
	return nil
}

// ReservedMetadata starts the names that adapters use themselves.
const ReservedMetadata = "sluice-"

// Check validates the options.
func (o PartOptions) Check() error {
	if o.Size < 0 {
		return invalid("a size of %d bytes is negative; 0 says that it is unknown", o.Size)
	}
	return CheckSHA256(o.SHA256)
}

// CheckSHA256 returns an Invalid error for what is neither empty nor a digest.
func CheckSHA256(digest string) error {
	if raw, err := hex.DecodeString(digest); err != nil || digest != "" && len(raw) != 32 || strings.ToLower(digest) != digest {
		return invalid("%q is not a SHA-256 digest: expected 64 lower-case hexadecimal digits", fault.Clip(digest, 80))
	}
	return nil
}

// CheckPart validates the number of a part.
func CheckPart(number int) error {
	if number < 1 || number > MaxPart {
		return invalid("part %d: parts are numbered from 1 to %d", number, MaxPart)
	}
	return nil
}

// CommitOrder returns the parts in the order of their numbers, or why they make
// no object.
func CommitOrder(parts []Part) ([]Part, error) {
	if len(parts) == 0 {
		return nil, badPart("an upload without parts cannot be completed: send a part, which may be empty")
	}
	parts = slices.SortedFunc(slices.Values(parts), func(a, b Part) int { return a.Number - b.Number })
	for i, p := range parts {
		if err := CheckPart(p.Number); err != nil {
			return nil, err
		}
		if i > 0 && parts[i-1].Number == p.Number {
			return nil, badPart("part %d is named twice", p.Number)
		}
		if i < len(parts)-1 && p.Size < MinPartSize {
			return nil, badPart("part %d has %d bytes: every part but the last needs %d", p.Number, p.Size, MinPartSize)
		}
	}
	return parts, nil
}

// CheckExpiry validates how long a presigned address lasts.
func CheckExpiry(d time.Duration) error {
	if d < time.Second || d > MaxExpiry {
		return invalid("an address cannot be valid for %s: expected 1s to %s", d, MaxExpiry)
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
