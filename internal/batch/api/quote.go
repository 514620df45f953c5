package api

import (
	"archive/zip"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// sample is what the first rows of a file are.
type sample struct {
	rows, bytes int64 // of the decoded content
	all         bool  // there are no others
}

// bookTried is how many rows of a workbook are tried to tell how many it has.
const bookTried = 4 * tried

// sampled is the sample that ends with the chunk, of which as much is read as it takes
// to tell how much compressed content inflates.
func sampled(r ingest.Reader, c *ingest.Chunk, f *ingest.File) (s sample) {
	for {
		s.rows += int64(c.Rows)
		if f.Format == ingest.XLSX { // whose positions are rows
			if s.rows >= bookTried {
				return s
			}
			if err := r.Read(c, ingest.Limit{Rows: tried, Bytes: triedBytes}); err != nil {
				s.all = errors.Is(err, io.EOF)
				return s
			}
			continue
		}
		s.bytes = r.Position().Offset - f.First.Offset
		s.all = c.Rows < tried && s.bytes < triedBytes
		if s.all || f.Coding.Compression == "" || s.bytes >= triedBytes {
			return s
		}
		if err := r.Read(c, ingest.Limit{Rows: tried, Bytes: triedBytes}); err != nil {
			s.all = errors.Is(err, io.EOF)
			return s
		}
	}
}

// counted counts what is read of a file, as it is kept.
type counted struct {
	ingest.Source
	last atomic.Int64 // bytes, by the last that was opened; where the last read ended, of a file that is read at any place
	file io.ReaderAt  // such a file; nil for none
	size int64
}

// Open implements ingest.Source.
func (c *counted) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	body, err := c.Source.Open(ctx, offset)
	c.last.Store(0)
	return countedBody{body, c}, err
}

// File implements ingest.Random.
func (c *counted) File(ctx context.Context) (io.ReaderAt, int64, error) {
	raw, size, err := c.Source.(ingest.Random).File(ctx) // it is run.Source's
	c.file, c.size = raw, size
	return countedFile{raw, c}, size, err
}

type countedFile struct {
	io.ReaderAt
	of *counted
}

// ReadAt implements io.ReaderAt.
func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	f.Reached(off + int64(n))
	return n, err
}

// Reached implements ingest.Followed.
func (f countedFile) Reached(offset int64) { f.of.last.Store(offset) }

// maxSheets is among how many sheets of a workbook the one that was read is looked for.
const maxSheets = 100

// share is how much of a workbook's sheet has been read, where that was what was read
// last; 1 where it is not known.
func (c *counted) share() float64 {
	if c.file == nil {
		return 1
	}
	book, err := zip.NewReader(c.file, c.size)
	if err != nil {
		return 1
	}
	sheets := 0
	for _, part := range book.File {
		if !strings.Contains(strings.ToLower(part.Name), "sheet") {
			continue
		}
		if sheets++; sheets > maxSheets {
			break
		}
		begin, err := part.DataOffset()
		if read := c.last.Load() - begin; err == nil && read > 0 && uint64(read) <= part.CompressedSize64 {
			return float64(read) / float64(part.CompressedSize64)
		}
	}
	return 1
}

type countedBody struct {
	io.ReadCloser
	of *counted
}

// Read implements io.Reader.
func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.of.last.Add(int64(n))
	return n, err
}

// extent is a file's rows, and the bytes that are decoded of it.
type extent struct {
	rows, bytes int64
	exact       bool
}

// of returns the extent of a file of so many bytes, as they are kept, that begins with the
// sample.
func (s sample) of(f *ingest.File, length int64, read *counted) extent {
	switch part := float64(s.rows); {
	case f.Rows > 0:
		return extent{f.Rows, length, true}
	case f.Format == ingest.XLSX && s.all:
		return extent{s.rows, length, true}
	case f.Format == ingest.XLSX:
		return extent{int64(part / read.share()), length, false}
	case s.all || s.rows == 0:
		return extent{s.rows, s.bytes, true}
	case f.Coding.Compression != "": // the reader is somewhat ahead of what it has decoded
		all := float64(length) / float64(max(min(read.last.Load(), length), 1))
		return extent{int64(part * all), int64(float64(s.bytes) * all), false}
	default:
		each := float64(max(s.bytes, 1)) / part
		return extent{int64(float64(length-f.First.Offset) / each), length, false}
	}
}

// quote fixes the size of the batch's runs, says what it will take, and refuses one
// whose deadline that breaks.
func (a *API) quote(ctx context.Context, b *job.Batch, m *run.Model, tenant string, s extent) error {
	b.RunRows = m.Best
	ahead, err := job.Ahead(ctx, a.store.Read(repo.Scope{Tenant: tenant}), b.Model, s.rows)
	if err != nil {
		return err
	}
	q := a.forecasts.Quote(m, b.Model, b.File.Format, s.rows, s.bytes, ahead)
	if q == nil {
		return nil
	}
	q.Exact = s.exact
	b.Quote = q
	now := a.store.Now()
	if b.Deadline.IsZero() || !now.Add(q.Duration(q.Rows)).After(b.Deadline) {
		return nil
	}
	const layout = time.RFC3339
	return fault.New(fault.Unprocessable, "%d rows, and %d of other batches that have their turns meanwhile, are forecast to take %s, and %s in one of twenty batches: until %s, and until %s; deadline_at is %s",
		q.Rows, q.Ahead, round(q.Duration(q.Rows)), round(q.P95(q.Rows)), now.Add(q.Duration(q.Rows)).UTC().Format(layout), now.Add(q.P95(q.Rows)).UTC().Format(layout),
		b.Deadline.UTC().Format(layout)).WithCode("deadline_unattainable")
}
