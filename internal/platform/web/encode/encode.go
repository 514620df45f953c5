// Package encode compresses answers and inflates requests: gzip, brotli and
// zstd, as the client wishes.
//
// An answer is compressed once it is large enough and of a type that shrinks.
// Streams are never held back: what a handler flushes is on its way before Flush
// returns, and an answer that is flushed before it was large enough goes out as
// it is.
//
// On BREACH: compression lets somebody who can make a browser send requests,
// with its cookies and with guesses of their own in them, measure what secret the
// answer repeats. So nothing is compressed for requests that, as browsers say in
// Sec-Fetch-Site, another site made. Bearer tokens are safe from it, for no
// browser adds them by itself. A handler that knows better sets Cache-Control:
// no-transform.
//
// Known limit: a coding is chosen by its name only; zstd windows are at most 8
// MiB, as RFC 9659 has it.
package encode

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// MinSize is the least size of an answer that is worth compressing, in bytes:
// below, it fits one packet anyway.
const MinSize = 1400

// encoder is a compressor that can be used again.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// The levels are those at which compressing costs less time than sending what it
// saves does on a good network.
var encoders = map[string]*sync.Pool{
	Gzip: {New: func() any {
		w, _ := gzip.NewWriterLevel(nil, 5) // the level is valid
		return w
	}},
	Brotli: {New: func() any { return brotli.NewWriterLevel(nil, 4) }},
	Zstd: {New: func() any {
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512<<10))
		return w
	}},
}

// Writer is the http.ResponseWriter of one answer.
type Writer struct {
	http.ResponseWriter
	head    bool    // the request's method is HEAD
	coding  string  // that the client wishes; "" for none
	status  int     // 0 until WriteHeader
	held    []byte  // written, while it is not decided
	decided bool    // the header is on its way
	enc     encoder // nil where the answer goes out as it is
}

var writers = sync.Pool{New: func() any { return new(Writer) }}

// Begin returns a writer for the answer to r, to be closed at its end.
func Begin(w http.ResponseWriter, r *http.Request) *Writer {
	e := writers.Get().(*Writer)
	*e = Writer{ResponseWriter: w, head: r.Method == http.MethodHead, held: e.held[:0]}
	if site := r.Header["Sec-Fetch-Site"]; len(site) == 0 || site[0] == "same-origin" || site[0] == "none" {
		e.coding = Choose(r.Header["Accept-Encoding"])
	}
	return e
}

// Unwrap lets http.ResponseController find what this writer does not do.
func (e *Writer) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// WriteHeader keeps the status until it is decided how the answer goes out.
func (e *Writer) WriteHeader(status int) {
	switch {
	case status < 200 && status != http.StatusSwitchingProtocols:
		e.ResponseWriter.WriteHeader(status) // an interim answer
	case e.status == 0:
		e.status = status
		if !e.eligible() {
			e.plain()
		}
	}
}

// eligible reports whether the answer would be compressed if it were large, and
// tells caches that the client's wishes matter.
func (e *Writer) eligible() bool {
	h := e.Header()
	switch e.status {
	case http.StatusNoContent, http.StatusNotModified, http.StatusPartialContent, http.StatusSwitchingProtocols:
		return false
	}
	if len(h["Content-Encoding"]) > 0 || !shrinks(h.Get("Content-Type")) || strings.Contains(h.Get("Cache-Control"), "no-transform") {
		return false
	}
	if !slices.ContainsFunc(h["Vary"], func(v string) bool { return strings.Contains(v, "Accept-Encoding") }) {
		h.Add("Vary", "Accept-Encoding")
	}
	return !e.head && e.coding != ""
}

// Write compresses p, or keeps it until there is enough.
func (e *Writer) Write(p []byte) (int, error) {
	if e.status == 0 {
		e.WriteHeader(http.StatusOK)
	}
	switch {
	case e.enc != nil:
		return e.enc.Write(p)
	case e.decided:
		return e.ResponseWriter.Write(p)
	case len(e.held)+len(p) < MinSize:
		e.held = append(e.held, p...)
		return len(p), nil
	}
	e.pack()
	if _, err := e.enc.Write(e.held); err != nil {
		return 0, err
	}
	return e.enc.Write(p)
}

// pack sends the header of a compressed answer.
func (e *Writer) pack() {
	h := e.Header()
	h.Del("Content-Length")
	h.Del("Accept-Ranges")
	h["Content-Encoding"] = []string{e.coding}
	if tag := h["Etag"]; len(tag) == 1 {
		h["Etag"] = []string{suffixed(tag[0], e.coding)}
	}
	e.decided = true
	e.ResponseWriter.WriteHeader(e.status)
	e.enc = encoders[e.coding].Get().(encoder)
	e.enc.Reset(e.ResponseWriter)
}

// plain sends the header of an answer that goes out as it is.
func (e *Writer) plain() {
	e.decided = true
	e.ResponseWriter.WriteHeader(e.status)
}

// FlushError sends at once what was written so far.
func (e *Writer) FlushError() error {
	if e.status == 0 {
		e.WriteHeader(http.StatusOK)
	}
	if e.enc != nil {
		if err := e.enc.Flush(); err != nil {
			return err
		}
	} else if err := e.release(); err != nil {
		return err
	}
	return http.NewResponseController(e.ResponseWriter).Flush()
}

// release sends what is held, as it is.
func (e *Writer) release() error {
	if !e.decided {
		e.plain()
	}
	if len(e.held) == 0 {
		return nil
	}
	_, err := e.ResponseWriter.Write(e.held)
	e.held = e.held[:0]
	return err
}

// Close ends the answer. The writer must not be used again, nor be closed where
// the answer is to be aborted.
func (e *Writer) Close() error {
	var err error
	switch {
	case e.enc != nil:
		err = e.enc.Close()
		e.enc.Reset(nil) // forget the connection
		encoders[e.coding].Put(e.enc)
	case e.status != 0:
		if h := e.Header(); !e.decided && len(h["Content-Length"]) == 0 && !e.head {
			h["Content-Length"] = []string{strconv.Itoa(len(e.held))}
		}
		err = e.release()
	}
	*e = Writer{held: e.held[:0]}
	writers.Put(e)
	return err
}

// shrinks reports whether content of a type is worth compressing.
func shrinks(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	switch {
	case media == "text/event-stream": // a stream by its nature
		return false
	case strings.HasPrefix(media, "text/"), strings.HasSuffix(media, "+json"), strings.HasSuffix(media, "+xml"), strings.HasSuffix(media, "+yaml"):
		return true
	}
	switch media {
	case "application/json", "application/javascript", "application/yaml", "application/xml", "application/x-ndjson", "application/cbor":
		return true
	}
	return false
}
