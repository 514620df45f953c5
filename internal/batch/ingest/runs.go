package ingest

import (
	"encoding/binary"
	"errors"
	"io"
)

// errRuns is what is said of a page whose runs have more values than its header says: a run of five bytes may be one
// of two thousand million values, which decoders set aside memory for before they look at anything else.
var errRuns = errors.New("a page has more values than its header says")

// How many values may fill the last run. The format means up to seven; DuckDB packs 256 whatever is left.
const (
	maxFill   = 7
	maxPacked = 1 << 10
)

// checkRuns refuses values in the hybrid of run lengths and bit packing (Parquet's Encodings.md, RLE = 3) that are more than
// n, but for what fills the last run. Nothing is decoded.
func checkRuns(data []byte, width, n int) error {
	for left := max(int64(n), 0); len(data) > 0; {
		u, size := binary.Uvarint(data)
		if size <= 0 {
			return io.ErrUnexpectedEOF
		}
		count, bytes, fill := u>>1, uint64(width+7)/8, int64(maxFill)
		if count > uint64(left+maxPacked) {
			return errRuns
		}
		data = data[size:]
		switch packed := u&1 != 0; {
		case count == 0: // has no value, either
			continue
		case packed:
			count, bytes, fill = 8*count, count*uint64(width), maxPacked
		}
		if left -= int64(count); left < -fill {
			return errRuns
		}
		if bytes > uint64(len(data)) {
			return io.ErrUnexpectedEOF
		}
		data = data[bytes:]
	}
	return nil
}
