// Package download answers requests for content of any size in a bounded amount
// of memory: whole or one range of it (RFC 9110, 14), on conditions, with its
// digest (RFC 9530).
//
// The answer is never compressed: its digest and its ranges are those of the
// bytes as they are. Known limit: of several ranges in one request none is
// taken, and the whole is sent, as RFC 9110, 14.2 allows.
package download

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// Content is what can be downloaded.
type Content struct {
	Size     int64  // bytes
	Type     string // media type
	SHA256   string // in hexadecimal; empty where it is not known
	FileName string // under which browsers save it; empty shows it
	// ETag is the strong entity tag, with its quotation marks; default one made
	// of SHA256, and none without.
	ETag string
	// Open returns the bytes from offset on, length of them or more. What it
	// returns instead of an end where the content is damaged keeps the client from
	// taking it for whole.
	Open func(ctx context.Context, offset, length int64) (io.ReadCloser, error)
}

// stall is how long a client may take for each piece; a download as a whole may
// take as long as it does.
const (
	stall = time.Minute
	piece = 1 << 20
	held  = 32 << 10 // of all the content, until it is known to be whole
)

// Serve answers a request with the content, a GET as its conditions and Range say. An error before the answer has
// begun is the caller's to write; one after it must end the connection.
func Serve(w http.ResponseWriter, r *http.Request, c Content) error {
	h := w.Header()
	if c.ETag == "" && c.SHA256 != "" {
		c.ETag = ETag(c.SHA256)
	}
	if c.ETag != "" {
		h.Set("ETag", c.ETag)
	}
	if c.SHA256 != "" {
		h.Set("Repr-Digest", Digest(c.SHA256))
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", "no-store, no-transform")
	if c.ETag != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && matches(r.Header["If-None-Match"], c.ETag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	offset, length, status := int64(0), c.Size, http.StatusOK
	if first, n, ok, err := requested(r, c); err != nil {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(c.Size, 10))
		return err
	} else if ok {
		offset, length, status = first, n, http.StatusPartialContent
	}
	return send(w, r, c, offset, length, status)
}

// Stream answers a request with content that is made while it is sent, of which Type and
// FileName are known: whole, whatever range is asked for, and without its size and digest. An
// error of write before it has written anything is the caller's to write; one after it must
// end the connection, so that nobody takes a part for the whole.
func Stream(w http.ResponseWriter, r *http.Request, c Content, write func(io.Writer) error) error {
	s := &stream{w: w, begin: sync.OnceFunc(func() {
		h := w.Header()
		h.Set("Accept-Ranges", "none")
		h.Set("Cache-Control", "no-store, no-transform")
		c.name(h)
		w.WriteHeader(http.StatusOK)
	})}
	if r.Method != http.MethodHead {
		if err := write(s); err != nil {
			return err
		}
	}
	s.begin()
	return nil
}

// stream is an answer whose header goes before the first bytes.
type stream struct {
	w     http.ResponseWriter
	begin func()
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	s.begin()
	_ = http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(stall)) // where there is none, the server's holds
	return s.w.Write(b)
}

// name says what the content is, and under which name it is saved.
func (c *Content) name(h http.Header) {
	h.Set("Content-Type", c.Type)
	if c.FileName == "" {
		return
	}
	if d := mime.FormatMediaType("attachment", map[string]string{"filename": c.FileName}); d != "" {
		h.Set("Content-Disposition", d)
	}
}

// send sends the header, and the bytes where they are wanted.
func send(w http.ResponseWriter, r *http.Request, c Content, offset, length int64, status int) error {
	var body io.ReadCloser = http.NoBody
	if r.Method != http.MethodHead && length > 0 {
		var err error
		if body, err = c.Open(r.Context(), offset, length); err != nil {
			return err
		}
	}
	defer body.Close()
	h := w.Header()
	if status == http.StatusPartialContent {
		h.Set("Content-Range", "bytes "+strconv.FormatInt(offset, 10)+"-"+strconv.FormatInt(offset+length-1, 10)+"/"+strconv.FormatInt(c.Size, 10))
	}
	c.name(h)
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	return copyBody(w, body, length, length == c.Size)
}

// copyBody sends length bytes. Of all the content, the end is kept back until
// the body says that it is whole: who has them all may trust them.
func copyBody(w http.ResponseWriter, body io.Reader, length int64, whole bool) error {
	control := http.NewResponseController(w)
	end := min(length, held)
	for left := length - end; left > 0; {
		_ = control.SetWriteDeadline(time.Now().Add(stall)) // where there is none, the server's holds
		n, err := io.CopyN(w, body, min(left, piece))
		if left -= n; err != nil {
			return early(err, left+end)
		}
	}
	last := make([]byte, end+1)
	n, err := io.ReadFull(body, last[:end])
	if err != nil {
		return early(err, end-int64(n))
	}
	if whole {
		if _, err := io.ReadFull(body, last[end:]); err != io.EOF {
			return fault.Wrap(fault.Internal, err, "the content does not end where it should")
		}
	}
	_ = control.SetWriteDeadline(time.Now().Add(stall))
	_, err = w.Write(last[:end])
	return err
}

// early makes an error of an end that comes too early.
func early(err error, missing int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.Internal, err, "the content ended %d bytes early", missing)
	}
	return err
}

// requested returns the range that a request asks for, if it does.
func requested(r *http.Request, c Content) (offset, length int64, ok bool, err error) {
	lines := r.Header["Range"]
	if len(lines) != 1 || r.Method != http.MethodGet {
		return 0, 0, false, nil
	}
	if cond := r.Header.Get("If-Range"); cond != "" && (cond != c.ETag || c.ETag == "") {
		return 0, 0, false, nil // another version: all of this one
	}
	text, ok := strings.CutPrefix(strings.ToLower(lines[0]), "bytes=")
	from, to, dash := strings.Cut(strings.TrimSpace(text), "-")
	if !ok || !dash || strings.Contains(text, ",") {
		return 0, 0, false, nil // a range that is not understood is none
	}
	first, hasFirst := position(from)
	last, hasLast := position(to)
	switch {
	case from == "" && hasLast:
		if last == 0 || c.Size == 0 {
			return 0, 0, false, unsatisfiable(c.Size)
		}
		offset = max(0, c.Size-last)
		return offset, c.Size - offset, true, nil
	case !hasFirst || to != "" && (!hasLast || last < first):
		return 0, 0, false, nil
	case first >= c.Size:
		return 0, 0, false, unsatisfiable(c.Size)
	case to == "" || last >= c.Size:
		last = c.Size - 1
	}
	return first, last - first + 1, true, nil
}

// position reads a number of bytes, of digits alone.
func position(text string) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err == nil
}

func unsatisfiable(size int64) error {
	return fault.New(fault.Invalid, "there is no such range: the content has %d bytes", size).WithCode(web.CodeRange)
}

// ETag returns the strong entity tag of content with the digest.
func ETag(sha256 string) string { return `"` + sha256[:min(len(sha256), 32)] + `"` }

// Digest returns a SHA-256 digest, given in hexadecimal, as Repr-Digest and
// Content-Digest have it (RFC 9530, 2).
func Digest(sha256 string) string {
	raw, err := hex.DecodeString(sha256)
	if err != nil {
		return ""
	}
	return "sha-256=:" + base64.StdEncoding.EncodeToString(raw) + ":"
}

// matches reports whether one of the tags is this one, or * (weak comparison).
func matches(lines []string, etag string) bool {
	for _, line := range lines {
		for tag := range strings.SplitSeq(line, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
