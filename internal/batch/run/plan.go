package run

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/fault"
)

// growth is after how many chunks the next are twice as large.
const growth = 512

// plan counts the rows, cuts them into chunks, and finds ids that are there twice.
func (t *turn) plan(ctx context.Context, b *job.Batch, c job.Claim) error {
	var chunks []job.Chunk
	err := t.onSpare(ctx, func() (err error) { chunks, err = t.cut(ctx, b); return err })
	if err == nil {
		_, err = t.update(ctx, func(b *job.Batch, now time.Time) error {
			return b.Planned(c, slices.Clone(chunks), now, t.cfg.Job.Timing)
		})
	}
	if err != nil {
		if !fault.Of(err).Kind.Retryable() { // else they may be the batch's
			for i := range chunks {
				t.drop(ctx, chunks[i].Twices)
			}
		}
		return err
	}
	if others := min(t.cfg.Workers, len(chunks)) - 1; others > 0 {
		return t.announce(ctx, others)
	}
	return nil
}

// cut goes through the file once. What it returns with an error has been written already.
func (t *turn) cut(ctx context.Context, b *job.Batch) (chunks []job.Chunk, err error) {
	r, err := ingest.Survey(ctx, Source(t.bucket, b.Input), b.File, &b.Spec, t.options())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	rows := int64(0)
	seen := ids{seed: maphash.MakeSeed()}
	m, err := t.predictor.Model(b.Model, b.ModelVersion)
	if err != nil {
		return nil, err
	}
	limit := ingest.Limit{Rows: t.rowsOf(&m), Bytes: t.cfg.ChunkSize}
	for chunk := new(ingest.Chunk); ; {
		begin := r.Position()
		if err := r.Read(chunk, limit); errors.Is(err, io.EOF) {
			return chunks, nil
		} else if err != nil {
			return chunks, err
		}
		if rows += int64(chunk.Rows); rows > t.cfg.MaxRows {
			return chunks, fault.New(fault.Unprocessable, "the file has more than %d rows: split it", t.cfg.MaxRows).WithCode("batch_too_many_rows")
		}
		entry := job.Chunk{Begin: begin, Rows: chunk.Rows, Sum: chunk.Sum}
		if err := t.noteTwice(ctx, b, &entry, seen.twice(chunk, b.Spec.ID != "")); err != nil {
			return chunks, err
		}
		chunks = append(chunks, entry)
		if len(chunks)%growth == 0 {
			limit.Rows, limit.Bytes = 2*limit.Rows, 2*limit.Bytes
		}
		if err := ctx.Err(); err != nil {
			return chunks, err
		}
	}
}

// rowsOf is how many rows a chunk has at most: fewer where their answers are wide, of
// which a chunk is held, too, as text.
func (t *turn) rowsOf(m *Model) int {
	const text = 16 // bytes of an element, and a comma
	wide := int64(1)
	for _, port := range m.Outputs {
		wide += max(elements(port.Shape), 1) // 1 where it varies, and nothing is known
	}
	return int(max(1, min(int64(t.cfg.ChunkRows), 4*t.cfg.ChunkSize/(text*wide))))
}

// noteTwice puts rows with ids of others into the ledger, or beside it where they are
// many: the ledger's size does not depend on what is in the file.
func (t *turn) noteTwice(ctx context.Context, b *job.Batch, entry *job.Chunk, rows []int) error {
	if len(rows) <= job.MaxTwice {
		entry.Twice = rows
		return nil
	}
	text, err := json.Marshal(rows)
	if err == nil {
		entry.Twices, err = t.put(ctx, b, text, int64(len(rows)))
	}
	return err
}

// twice returns the rows of a chunk that have ids of others, ascending.
func (t *turn) twice(ctx context.Context, entry *job.Chunk) (rows []int, err error) {
	if entry.Twices.Key == "" {
		return entry.Twice, nil
	}
	text, err := t.load(ctx, entry.Twices)
	if err == nil {
		err = json.Unmarshal(text, &rows)
	}
	return rows, err
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
