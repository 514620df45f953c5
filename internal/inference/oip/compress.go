package oip

import (
	"compress/gzip"
	"compress/zlib"
	"io"
	"strconv"
	"strings"
	"sync"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
)

// minCompress is the smallest answer worth compressing: below, it fits one
// packet anyway.
const minCompress = 1400

// The codings of answers, as values of Content-Encoding.
var (
	gzipCoding    = []string{"gzip"}
	deflateCoding = []string{"deflate"}
)

// deflater is a compressor that can be used again.
type deflater interface {
	io.WriteCloser
	Reset(io.Writer)
}

var (
	gzips = sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
		return w
	}}
	zlibs = sync.Pool{New: func() any {
		w, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed)
		return w
	}}
)

// slabWriter appends what is written to a slab.
type slabWriter struct{ *tensor.Slab }

func (w slabWriter) Write(p []byte) (int, error) {
	w.B = append(w.B, p...)
	return len(p), nil
}

// compress returns the body in the coding that the client likes best, in a slab
// for the caller to release; nil where it should be sent as it is. What it takes
// counts in the account.
func compress(account *budget.Account, body []byte, accept []string) (packed *tensor.Slab, encoding []string) {
	if len(body) < minCompress {
		return nil, nil
	}
	pool := &gzips
	switch encoding = chooseCoding(accept); {
	case encoding == nil:
		return nil, nil
	case encoding[0] == "deflate":
		pool = &zlibs
	}
	if account.Acquire(int64(len(body))) != nil { // sent as it is, the answer needs no more memory
		return nil, nil
	}
	packed = tensor.GetSlab(len(body))
	w := pool.Get().(deflater)
	defer pool.Put(w)
	w.Reset(slabWriter{packed})
	_, err := w.Write(body)
	if closed := w.Close(); err != nil || closed != nil || len(packed.B) >= len(body) {
		packed.Release()
		return nil, nil
	}
	return packed, encoding
}

// chooseCoding returns gzip or deflate, whichever has the higher quality value
// in Accept-Encoding and no lower one than no coding at all; else nil.
func chooseCoding(accept []string) []string {
	gzipQ, deflateQ, identityQ, anyQ := -1.0, -1.0, -1.0, -1.0
	for _, header := range accept {
		for item := range strings.SplitSeq(header, ",") {
			name, q := parseCoding(item)
			switch name {
			case "gzip", "x-gzip":
				gzipQ = q
			case "deflate":
				deflateQ = q
			case "identity":
				identityQ = q
			case "*":
				anyQ = q
			}
		}
	}
	if gzipQ < 0 {
		gzipQ = anyQ
	}
	if deflateQ < 0 {
		deflateQ = anyQ
	}
	switch best := max(gzipQ, deflateQ); {
	case best <= 0 || best < identityQ:
		return nil
	case gzipQ >= deflateQ:
		return gzipCoding
	}
	return deflateCoding
}

// parseCoding splits "gzip;q=0.5"; the quality is 1 where none is given, and 0
// where it cannot be read.
func parseCoding(item string) (name string, q float64) {
	name, parameter, found := strings.Cut(item, ";")
	q = 1
	if found {
		value, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
		var err error
		if q, err = strconv.ParseFloat(value, 64); !ok || err != nil || !(q >= 0 && q <= 1) {
			q = 0
		}
	}
	return strings.ToLower(strings.TrimSpace(name)), q
}
