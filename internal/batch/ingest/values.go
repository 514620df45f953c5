package ingest

import (
	"encoding/binary"
	"io"
	"math/bits"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/format"
)

// checkLevels refuses levels up to the highest that are more than n.
func checkLevels(data []byte, encoding format.Encoding, highest, n int) error {
	width := bits.Len(uint(highest))
	switch {
	case highest == 0: // they are passed over
		return nil
	case encoding == format.BitPacked:
		if len(data) > (n*width+7)/8 {
			return errRuns
		}
		return nil
	}
	return checkRuns(data, width, n)
}

// checkPrefixed is checkLevels of those that their length is before, and returns what is behind them.
func checkPrefixed(data []byte, encoding format.Encoding, highest, n int) ([]byte, error) {
	if highest == 0 { // there are none
		return data, nil
	}
	if len(data) < 4 {
		return nil, io.ErrUnexpectedEOF
	}
	size := int64(binary.LittleEndian.Uint32(data))
	if data = data[4:]; size > int64(len(data)) {
		return nil, io.ErrUnexpectedEOF
	}
	return data[size:], checkLevels(data[:size], encoding, highest, n)
}

// checkValues refuses values that are more than n, or more bytes than a page may have. Of the encodings not named here each
// value takes as many bytes of the page as of memory.
func checkValues(data []byte, encoding format.Encoding, kind parquet.Kind, n int) (err error) {
	switch encoding {
	case format.PlainDictionary, format.RLEDictionary: //nolint:staticcheck // older files have the first
		if len(data) == 0 {
			return nil
		}
		return checkRuns(data[1:], int(data[0]), n)
	case format.RLE:
		if kind != parquet.Boolean { // no other can be encoded so
			return errRuns
		}
		_, err = checkPrefixed(data, encoding, 1, n)
	case format.DeltaBinaryPacked, format.DeltaLengthByteArray:
		_, err = checkDeltas(data, n)
	case format.DeltaByteArray:
		return checkPrefixes(data, n)
	}
	return err
}

// checkPrefixes refuses texts each of which says how much of the one before it begins with, where they are more than n or more
// than maxPage bytes.
func checkPrefixes(data []byte, n int) error {
	rest, err := checkDeltas(data, n)
	if err != nil {
		return err
	}
	if _, err := checkDeltas(rest, n); err != nil {
		return err
	}
	prefixes, err := (&delta.BinaryPackedEncoding{}).DecodeInt32(nil, data)
	if err != nil {
		return err
	}
	size := int64(len(rest)) // of the other bytes of the texts, at least
	for _, p := range prefixes {
		if size += int64(max(p, 0)); size > maxPage {
			return errPage
		}
	}
	return nil
}

// checkDeltas refuses numbers in the delta encoding (Parquet's Encodings.md, DELTA_BINARY_PACKED = 5) that are more than n, and
// returns what is behind them.
func checkDeltas(data []byte, n int) (rest []byte, err error) {
	var head [4]uint64 // values of a block, its miniblocks, values in all, the first of them
	for i := range head {
		if head[i], data, err = uvarint(data); err != nil {
			return nil, err
		}
	}
	block, minis, left := head[0], head[1], head[2]
	if left > uint64(max(n, 0)) {
		return nil, errRuns
	}
	if block > 1<<16 || minis == 0 || minis > block {
		return nil, io.ErrUnexpectedEOF
	}
	each := block / minis
	for left -= min(left, 1); left > 0; {
		if _, data, err = uvarint(data); err != nil { // the lowest delta
			return nil, err
		}
		if uint64(len(data)) < minis {
			return nil, io.ErrUnexpectedEOF
		}
		widths := data[:minis]
		data = data[minis:]
		for _, width := range widths {
			if left == 0 {
				break
			}
			data = data[min(uint64(len(data)), each*uint64(width)/8):]
			left -= min(left, each)
		}
	}
	return data, nil
}

func uvarint(data []byte) (uint64, []byte, error) {
	u, size := binary.Uvarint(data)
	if size <= 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return u, data[size:], nil
}
