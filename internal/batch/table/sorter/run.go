package sorter

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// run is rows in their order, in a file: blocks, each with its length before it.
type run struct {
	level int
	size  int64
	file  *os.File
	w     *bufio.Writer // while it is written
	r     *bufio.Reader // once it is read
	block *table.Chunk
	at    int
	raw   []byte
}

// newRun opens a file that has no name any more where the system allows that, so
// that a process which dies leaves none.
func newRun(dir string, level int, schema table.Schema) (*run, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, broken(err)
		}
	}
	f, err := os.CreateTemp(dir, "sort-*")
	if err != nil {
		return nil, broken(err)
	}
	_ = os.Remove(f.Name()) // else close does it
	return &run{level: level, file: f, w: bufio.NewWriter(f), block: table.NewChunk(schema)}, nil
}

func broken(err error) error {
	return fault.Wrap(fault.Unavailable, err, "the files that sorting takes cannot be written or read").WithCode("sort_disk")
}

// write adds a block.
func (r *run) write(c *table.Chunk) error {
	r.raw = c.AppendBlock(r.raw[:0])
	head := binary.AppendUvarint(nil, uint64(len(r.raw)))
	r.size += int64(len(head) + len(r.raw))
	if _, err := r.w.Write(head); err != nil {
		return broken(err)
	}
	if _, err := r.w.Write(r.raw); err != nil {
		return broken(err)
	}
	return nil
}

// rewind ends the writing, and begins the reading.
func (r *run) rewind() error {
	if err := r.w.Flush(); err != nil {
		return broken(err)
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return broken(err)
	}
	r.w, r.raw = nil, nil
	return nil
}

// fetch reads the next block; there are no rows behind the last.
func (r *run) fetch() error {
	if r.r == nil {
		r.r = bufio.NewReaderSize(r.file, 64<<10)
	}
	r.at = 0
	n, err := binary.ReadUvarint(r.r)
	if errors.Is(err, io.EOF) {
		r.block.Reset()
		return nil
	}
	if err != nil || n > uint64(r.size) {
		return broken(err)
	}
	if uint64(cap(r.raw)) < n {
		r.raw = make([]byte, n)
	}
	r.raw = r.raw[:n]
	if _, err := io.ReadFull(r.r, r.raw); err != nil {
		return broken(err)
	}
	return r.block.ReadBlock(r.raw)
}

func (r *run) row() (*table.Chunk, int, bool) { return r.block, r.at, r.at < r.block.Rows() }

func (r *run) next() error {
	if r.at++; r.at < r.block.Rows() {
		return nil
	}
	return r.fetch()
}

func (r *run) close() {
	_ = r.file.Close()           // nobody wants it any more
	_ = os.Remove(r.file.Name()) // where it has a name still
}
