package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"

	"sluice/internal/platform/fault"
)

// errArrowEnd is said of files; a stream may end without a word.
var errArrowEnd error = fault.New(fault.Unprocessable, "the Arrow file does not end with its footer and ARROW1 behind the last record batch, as one does that was written to its end: close its writer, and upload the whole file again").WithCode(codeDamaged)

// maxArrowEnd is how many bytes may be between the last message and the footer: a mark, and what
// aligns it. No record batch has so few, so that a footer which has lost one is found out.
const maxArrowEnd = 64

// maxArrowFooter is how many bytes a footer may have: a schema, and where as many messages are as there may be.
const maxArrowFooter = maxArrowHeader + 24*maxMessages

// What is said of a footer that would make rows without end of few bytes, or have the file read from
// its end to its beginning. Writers name messages in the order in which they wrote them.
var (
	errOrder   = errors.New("the footer names messages twice, or in another order than they are in")
	errOverlap = errors.New("a message begins within another one")
)

// bounds returns where the messages of a file or a stream begin, and the footer of a file, if it is there. What
// is behind the messages is no longer within the size.
func (f *arrowFile) bounds() (begin int64, footer []byte, err error) {
	head, tail := make([]byte, 8), make([]byte, 4+len(arrowMagic))
	if f.size < int64(len(head)+len(tail)) {
		return 0, nil, nil
	}
	if n, err := f.raw.ReadAt(head, 0); n < len(head) {
		return 0, nil, short(err)
	}
	if !bytes.HasPrefix(head, []byte(arrowMagic)) {
		return 0, nil, nil
	}
	f.whole = true
	end := f.size - int64(len(tail))
	if n, err := f.raw.ReadAt(tail, end); n < len(tail) {
		return 0, nil, short(err)
	}
	length := int64(binary.LittleEndian.Uint32(tail))
	if !bytes.HasSuffix(tail, []byte(arrowMagic)) || length >= end-8 || length > maxArrowFooter {
		return 8, nil, nil
	}
	f.size = end - length
	footer = make([]byte, length)
	if n, err := f.raw.ReadAt(footer, f.size); n < len(footer) {
		return 0, nil, short(err)
	}
	return 8, footer, nil
}

// read notes all messages, and returns io.EOF where they end as they should. A file's are
// where its footer says: what is between them, and how its schema is written before them, is the
// writer's own affair. Where there is no footer that can be read, they follow each other.
func (f *arrowFile) read(heads io.ReaderAt) error {
	begin, footer, err := f.bounds()
	if err != nil {
		return err
	}
	blocks, err := f.footer(footer)
	if err != nil {
		return err
	}
	if blocks == nil {
		return f.follow(heads, begin)
	}
	end := begin
	for _, at := range blocks {
		if at < end {
			return damaged(errOverlap)
		}
		m, err := f.message(heads, at)
		switch {
		case errors.Is(err, io.EOF):
			return damaged(io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
		end = m.end
	}
	if len(blocks) > 0 && f.size-end > maxArrowEnd {
		return errArrowEnd
	}
	return io.EOF
}

// follow notes the messages that follow each other from a place on.
func (f *arrowFile) follow(heads io.ReaderAt, at int64) error {
	for {
		m, err := f.message(heads, at)
		switch {
		case errors.Is(err, io.EOF) && f.whole:
			return errArrowEnd
		case err != nil:
			return err
		}
		at = m.end
	}
}

// message notes the message at a place.
func (f *arrowFile) message(heads io.ReaderAt, at int64) (m arrowMessage, err error) {
	err = guarded(func() error {
		if m, err = readMessage(heads, at, f.size); err != nil {
			return err
		}
		return f.add(&m, at)
	})
	return m, err
}

// footer takes the schema from a file's footer (File.fbs), and returns where its dictionaries and
// record batches are, in the file's order; nil where it says nothing that can be read. What is wrong
// with the schema itself is an error.
func (f *arrowFile) footer(b []byte) (blocks []int64, err error) {
	if len(b) < 8 {
		return nil, nil
	}
	damage := guarded(func() error {
		t := fbRoot(b)
		schema, is := t.table(6)
		if !is {
			return io.ErrUnexpectedEOF
		}
		blocks = make([]int64, 0, 16)
		for _, slot := range []flatbuffers.VOffsetT{8, 10} {
			const size = 24 // offset, length of the header, four bytes that align, length of the body
			begin, n := t.vector(slot)
			last := int64(math.MinInt64)
			for i := range n {
				at := int64(binary.LittleEndian.Uint64(b[begin+flatbuffers.UOffsetT(size*i):]))
				if at <= last {
					return errOrder
				}
				blocks, last = append(blocks, at), at
			}
		}
		slices.Sort(blocks)
		err = f.schema(&schema, t.GetInt16Slot(4, 0))
		return nil
	})
	if damage != nil {
		f.fields = nil
		return nil, nil
	}
	return blocks, err
}
