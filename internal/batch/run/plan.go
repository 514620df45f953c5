package run

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Open implements ingest.Source.
func (s source) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	o, err := s.bucket.Get(ctx, s.key, blob.GetOptions{Range: blob.Range{Offset: offset}})
	if fault.CodeOf(err) == blob.CodeRange { // nothing is behind the end
		return io.NopCloser(eof{}), nil
	}
	return o.Body, err
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// growth is after how many chunks the next are twice as large.
const growth = 512

// plan counts the rows, cuts them into chunks, and finds ids that are there twice.
func (t *turn) plan(ctx context.Context, b *job.Batch, c job.Claim) error {
	names := &ingest.Spec{ID: b.Spec.ID}
	if b.File.Format == ingest.Parquet { // of which rows take what their columns do
		names = &b.Spec
	}
	r, err := ingest.Open(ctx, Source(t.bucket, b.Input.Key), b.File, names, b.File.First, t.cfg.Options)
	if err != nil {
		return err
	}
	defer r.Close()
	var chunks []job.Chunk
	rows := int64(0)
	seen := ids{seed: maphash.MakeSeed()}
	limit := ingest.Limit{Rows: t.cfg.ChunkRows, Bytes: t.cfg.ChunkSize}
	for chunk := new(ingest.Chunk); ; {
		begin := r.Position()
		if err := r.Read(chunk, limit); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if rows += int64(chunk.Rows); rows > t.cfg.MaxRows {
			return fault.New(fault.Unprocessable, "the file has more than %d rows: split it", t.cfg.MaxRows).WithCode("batch_too_many_rows")
		}
		chunks = append(chunks, job.Chunk{Begin: begin, Rows: chunk.Rows, Twice: seen.twice(chunk, b.Spec.ID != "")})
		if len(chunks)%growth == 0 {
			limit.Rows, limit.Bytes = 2*limit.Rows, 2*limit.Bytes
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if _, err := t.update(ctx, func(b *job.Batch, now time.Time) error {
		return b.Planned(c, append([]job.Chunk(nil), chunks...), now, t.cfg.Job.Timing)
	}); err != nil {
		return err
	}
	if others := min(t.cfg.Workers, len(chunks)) - 1; others > 0 {
		return t.announce(ctx, others)
	}
	return nil
}

// ids is a set of rows' ids, by their hashes: of ten million, two are taken for the
// same with a probability of three in a million.
type ids struct {
	seed  maphash.Seed
	slots []uint64
	n     int
}

// twice adds the ids of a chunk, and returns the rows whose ids were there.
func (s *ids) twice(c *ingest.Chunk, named bool) []int {
	if !named {
		return nil
	}
	var rows []int
	for i := range c.Rows {
		if !c.IDs.Null(i) && !s.add(maphash.Bytes(s.seed, c.IDs.Text(i))|1) {
			rows = append(rows, i)
		}
	}
	return rows
}

// add adds a hash, which is not 0, unless it is there.
func (s *ids) add(h uint64) bool {
	if 4*(s.n+1) > 3*len(s.slots) {
		old := s.slots
		s.slots, s.n = make([]uint64, max(2*len(old), 1024)), 0
		for _, h := range old {
			if h != 0 {
				s.add(h)
			}
		}
	}
	for i := h >> 1 & uint64(len(s.slots)-1); ; i = (i + 1) & uint64(len(s.slots)-1) {
		switch s.slots[i] {
		case 0:
			s.slots[i] = h
			s.n++
			return true
		case h:
			return false
		}
	}
}

// File implements ingest.Random.
func (s source) File(ctx context.Context) (io.ReaderAt, int64, error) {
	f, err := blob.OpenFile(ctx, s.bucket, s.key)
	if err != nil {
		return nil, 0, err
	}
	return f, f.Size(), nil
}
