package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

var errInflates = errors.New("a page is larger than its header says, or not compressed as the file says")

// inflatePage decompresses a page into memory, whose capacity is what it may have.
func inflatePage(memory []byte, codec format.CompressionCodec, page []byte) ([]byte, error) {
	memory = memory[:cap(memory)]
	switch codec {
	case format.Snappy:
		if n, err := snappy.DecodedLen(page); err != nil || n > len(memory) {
			return nil, errInflates
		}
		return snappy.Decode(memory, page)
	case format.Lz4Raw:
		n, err := lz4.UncompressBlock(page, memory)
		if err != nil {
			return nil, errInflates
		}
		return memory[:n], nil
	case format.Zstd:
		d := zstds.Get().(*zstd.Decoder) //nolint:forcetypeassert // there are no others
		defer zstds.Put(d)
		return d.DecodeAll(page, memory[:0])
	case format.Gzip:
		z, err := gzip.NewReader(bytes.NewReader(page))
		if err != nil {
			return nil, err
		}
		return fill(memory, z)
	case format.Brotli:
		return fill(memory, brotli.NewReader(bytes.NewReader(page)))
	}
	return nil, fmt.Errorf("pages that are compressed by %s cannot be read: %w", codec, errors.ErrUnsupported)
}

// fill reads all that is to be read.
func fill(memory []byte, r io.Reader) ([]byte, error) {
	n, err := io.ReadFull(r, memory)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return memory[:n], nil // if it is cut off, whoever decodes it says so
	}
	if err != nil {
		return nil, err
	}
	if more, err := io.ReadFull(r, make([]byte, 1)); more > 0 {
		return nil, errInflates
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return memory, nil
}

var zstds = sync.Pool{New: func() any {
	d, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	return d
}}
