package run

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
)

// compute runs one chunk, or of one that was run before the rows that failed.
func (t *turn) compute(ctx context.Context, b *job.Batch, c job.Claim) error {
	m, err := t.predictor.Model(b.Model, b.ModelVersion)
	if err != nil {
		return err
	}
	entry := &b.Chunks[c.Chunk]
	memory := t.take()
	chunk := &memory.chunk
	if err := t.onSpare(ctx, func() error { return t.read(b, c.Chunk, chunk) }); err != nil {
		return err
	}
	again, err := t.failedBefore(ctx, entry)
	if err != nil {
		return err
	}
	twice, err := t.twice(ctx, entry)
	if err != nil {
		return err
	}
	var p *pass
	if err := t.onSpare(ctx, func() error { p = newPass(b, entry, m, chunk, again, twice); return nil }); err != nil {
		return err
	}
	p.waits, p.cpu = t.cfg.Job.Lease, t.cfg.CPU
	if entry.Careful() {
		err = p.careful(ctx, t.predictor, func(ctx context.Context, rows job.Rows) error {
			_, err := t.update(ctx, func(b *job.Batch, now time.Time) error { return b.Note(c, rows, now, t.cfg.Job.Timing) })
			return err
		})
	} else {
		err = p.predict(ctx, t.predictor)
	}
	if err != nil {
		return err
	}
	o, err := t.keep(ctx, b, entry, p, &memory.text)
	if err != nil {
		t.drop(ctx, o.Result, o.Errors)
		return err
	}
	if _, err = t.update(ctx, func(b *job.Batch, now time.Time) error { return b.Computed(c, o, now, t.cfg.Job.Timing) }); err != nil {
		if errors.Is(err, job.ErrStale) {
			t.drop(ctx, o.Result, o.Errors)
		}
		return err
	}
	t.cfg.Metrics.computed(&o, p.ran())
	t.drop(ctx, entry.Result, entry.Errors) // those before
	t.give(memory)
	return nil
}

// options are those of reading in the turn.
func (t *turn) options() ingest.Options {
	o := t.cfg.Options
	o.Yield = t.yield
	return o
}

// read fills the chunk with the rows of the ledger's entry, which must be those that it was
// cut from. The file stays open for the next, as long as the turn lives.
func (t *turn) read(b *job.Batch, i int, chunk *ingest.Chunk) (err error) {
	entry := &b.Chunks[i]
	if t.open != nil && t.open.Position().Offset > entry.Begin.Offset {
		t.close()
	}
	if t.open == nil {
		if t.open, err = ingest.Open(t.life, Source(t.bucket, b.Input), b.File, &b.Spec, entry.Begin, t.options()); err != nil {
			t.open = nil
			return err
		}
	}
	if err := t.open.Forward(entry.Begin); err != nil {
		return err
	}
	err = t.open.Read(chunk, ingest.Limit{Rows: entry.Rows, Bytes: math.MaxInt64})
	switch {
	case errors.Is(err, io.EOF) || err == nil && chunk.Rows != entry.Rows:
		return changed("it has fewer rows")
	case err != nil:
		return err
	case entry.Sum != 0 && chunk.Sum != entry.Sum: // a ledger of before has none
		return changed("it has other content")
	}
	return t.endsWith(b.Chunks[i+1:])
}

// endsWith says whether what has been read ends where the rows of the ledger's next entry
// begin, or the file.
func (t *turn) endsWith(next []job.Chunk) error {
	if len(next) > 0 {
		if at := t.open.Position(); at.Offset != next[0].Begin.Offset || at.Row != next[0].Begin.Row {
			return changed("its rows are elsewhere")
		}
		return nil
	}
	err := t.open.Read(new(ingest.Chunk), ingest.Limit{Rows: 1, Bytes: 1})
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return changed("it has more rows")
	}
	return err
}

// keep writes what became of the rows; its text is made in room.
func (t *turn) keep(ctx context.Context, b *job.Batch, entry *job.Chunk, p *pass, room *bytes.Buffer) (o job.Outcome, err error) {
	o.Used, o.Failed, o.Reused = p.used, len(p.failed), p.reused
	o.Rows = p.failed[:min(len(p.failed), job.MaxErrors)]
	var text []byte
	if err := t.onSpare(ctx, func() (err error) { text, err = p.results(room, t.yield); return err }); err != nil {
		return o, err
	}
	if p.again != nil {
		old, err := t.load(ctx, entry.Result)
		if err != nil {
			return o, err
		}
		text = merge(old, text, b.Output.Format, p.again)
	}
	if o.Result, err = t.put(ctx, b, text, int64(entry.Rows)); err != nil || len(p.failed) == 0 {
		return o, err
	}
	o.Errors, err = t.put(ctx, b, p.errors(), int64(len(p.failed)))
	return o, err
}

// merge puts new records in the place of those of an old text that are run again.
func merge(old, text []byte, f ingest.Format, again []int) []byte {
	fresh := slices.Collect(ingest.Records(text, f))
	out := make([]byte, 0, len(old)+len(text))
	row, next := 0, 0
	for record := range ingest.Records(old, f) {
		if next < len(again) && again[next] == row && next < len(fresh) {
			record = fresh[next]
			next++
		}
		out = append(out, record...)
		row++
	}
	return out
}

// put keeps a text as an object.
func (t *turn) put(ctx context.Context, b *job.Batch, text []byte, rows int64) (job.Object, error) {
	sum := sha256.Sum256(text)
	o := job.Object{Key: job.Key(b.Tenant, b.ID), Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Rows: rows}
	_, err := t.bucket.Put(ctx, o.Key, bytes.NewReader(text), blob.PutOptions{PartOptions: blob.PartOptions{Size: o.Bytes, SHA256: o.SHA256}})
	return o, err
}

// maxReserve is how much room is made for an object's bytes before they are there.
const maxReserve = 64 << 20

// load returns an object's bytes, of which it is checked that they are whole.
func (t *turn) load(ctx context.Context, o job.Object) ([]byte, error) {
	body, err := t.bucket.Get(ctx, o.Key, blob.GetOptions{})
	if err != nil {
		return nil, err
	}
	defer body.Body.Close()
	body.Info.SHA256 = o.SHA256
	text := bytes.NewBuffer(make([]byte, 0, min(max(o.Bytes, 0), maxReserve)+bytes.MinRead)) // which needs room to see the end
	_, err = text.ReadFrom(body.Verified())
	return text.Bytes(), err
}

// drop deletes objects that the batch will never name. Where that fails, the sweep
// does it.
func (t *turn) drop(ctx context.Context, objects ...job.Object) {
	for _, o := range objects {
		if o.Key != "" {
			_ = t.bucket.Delete(context.WithoutCancel(ctx), o.Key)
		}
	}
}

// sum sums the parts up that are the results.
func (t *turn) sum(ctx context.Context, b *job.Batch) (all job.Object, err error) {
	hash := sha256.New()
	all.Bytes = int64(len(b.Output.Head))
	_, _ = io.WriteString(hash, b.Output.Head)
	for i := range b.Chunks {
		o := b.Chunks[i].Result
		if o.Key == "" {
			continue
		}
		text, err := t.load(ctx, o)
		if err != nil {
			return all, err
		}
		_, _ = hash.Write(text)
		all.Bytes += o.Bytes
		all.Rows += o.Rows
		t.yield()
	}
	all.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return all, nil
}

// finalize sums the results up, and ends the batch.
func (t *turn) finalize(ctx context.Context, b *job.Batch, c job.Claim) error {
	var all job.Object
	var files []job.File
	err := t.onSpare(ctx, func() (err error) {
		if all, err = t.sum(ctx, b); err == nil {
			files, err = t.files(ctx, b)
		}
		return err
	})
	if err != nil {
		return err
	}
	ended, err := t.update(ctx, func(b *job.Batch, now time.Time) error {
		b.Files = files
		return b.Finish(c, &all, now, t.cfg.Job.Timing)
	})
	if err != nil {
		if errors.Is(err, job.ErrStale) {
			t.dropFiles(ctx, files)
		}
		return err
	}
	if ratio := t.cfg.Forecasts.Learn(&ended); ratio > 0 {
		t.cfg.Metrics.ratio.Observe(ratio)
	}
	return nil
}
