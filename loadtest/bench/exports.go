package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/export"
	"sluice/internal/batch/table"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/fsblob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
)

// measureExport compares rows per second of whole exports, from the request to the
// files in their folder, with those of the encoder alone: rows of ten columns that are
// made as they are read, so that the encoder is what takes longest. Where the disk may
// be slower still, the time of writing an object of as many bytes is told beside it.
func measureExport(ctx context.Context, b *bench) (err error) {
	rows := 1_000_000
	if b.short {
		rows = 100_000
	}
	x, done, err := b.newExporter(ctx, rows)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	for _, f := range []encode.Format{encode.CSV, encode.JSONL, encode.Parquet, encode.XLSX} {
		var whole, alone, disk time.Duration
		var bytes int64
		for range 3 { // in turns, and the best of each
			took, err := encoded(rows, f)
			if err != nil {
				return err
			}
			alone = shorter(alone, took)
			if took, bytes, err = x.export(ctx, f, rows); err != nil {
				return err
			}
			whole = shorter(whole, took)
			if took, err = x.put(ctx, bytes); err != nil {
				return err
			}
			disk = shorter(disk, took)
		}
		ratio := alone.Seconds() / whole.Seconds()
		b.report.line("%s: %.0f rows/s exported, %.0f rows/s made and encoded alone: %.2f x", f, float64(rows)/whole.Seconds(), float64(rows)/alone.Seconds(), ratio)
		b.report.line("  an object of its %.0f MB alone: %.0f MB/s, %.0f rows/s; exported: %.2f x what is slower", float64(bytes)/1e6, float64(bytes)/1e6/disk.Seconds(), float64(rows)/disk.Seconds(), max(alone, disk).Seconds()/whole.Seconds())
		b.report.set("export_"+string(f), ratio)
	}
	return nil
}

func shorter(best, took time.Duration) time.Duration {
	if best == 0 || took < best {
		return took
	}
	return best
}

// exportColumns are ten, of all types.
var exportColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "model", Type: table.String}, {Name: "created_at", Type: table.Time}, {Name: "score", Type: table.Float}, {Name: "rows", Type: table.Int},
	{Name: "cached", Type: table.Bool}, {Name: "country", Type: table.String}, {Name: "latency_us", Type: table.Int}, {Name: "weight", Type: table.Float}, {Name: "note", Type: table.String},
}

// exportRow adds row i.
func exportRow(c *table.Chunk, id []byte, i int) []byte {
	n := int64(i)
	id = fmt.Appendf(id[:0], "pred_%032x", i*2654435761)
	c.Column(0).AppendText(id)
	c.Column(1).AppendString("classifier")
	c.Column(2).AppendInt(1_790_000_000_000_000 + n*1_000_003)
	c.Column(3).AppendFloat(float64(n%9973) / 9973)
	c.Column(4).AppendInt(n % 64)
	c.Column(5).AppendBool(n%3 == 0)
	c.Column(6).AppendString("DE")
	c.Column(7).AppendInt(n * 7919 % 1_000_000)
	c.Column(8).AppendFloat(float64(n) * 0.25)
	if n%5 == 0 {
		c.Column(9).AppendNull()
	} else {
		c.Column(9).AppendString("a note, with a comma")
	}
	return id
}

// madeRows is a scan of rows that are made as they are read.
type madeRows struct {
	rows, at int
	id       []byte
}

func (m *madeRows) Schema() table.Schema                 { return exportColumns }
func (m *madeRows) Seen() int64                          { return int64(m.at) }
func (m *madeRows) Count(context.Context) (int64, error) { return int64(m.rows), nil }

func (m *madeRows) Read(_ context.Context, into *table.Chunk) error {
	into.Reset()
	if m.at == m.rows {
		return io.EOF
	}
	for end := min(m.at+2000, m.rows); m.at < end; m.at++ {
		m.id = exportRow(into, m.id, m.at)
	}
	return nil
}

// encoded returns how long the encoder takes for all rows, making them included.
func encoded(rows int, f encode.Format) (time.Duration, error) {
	w, err := encode.New(io.Discard, exportColumns, encode.Options{Format: f, Zone: time.UTC})
	if err != nil {
		return 0, err
	}
	source, chunk := &madeRows{rows: rows}, table.NewChunk(exportColumns)
	began := time.Now()
	for {
		err := source.Read(context.Background(), chunk)
		if errors.Is(err, io.EOF) {
			err = w.Close()
			return time.Since(began), err
		}
		if err == nil {
			err = w.Write(chunk)
		}
		if err != nil {
			return 0, err
		}
	}
}

// exporter is the export service on an SQLite store and a folder.
type exporter struct {
	*export.Service
	bucket blob.Writer
}

func (b *bench) newExporter(ctx context.Context, rows int) (*exporter, func() error, error) {
	d, err := sqliterepo.Open(ctx, filepath.Join(b.dir, "exports.db"), sqliterepo.Config{})
	if err != nil {
		return nil, nil, err
	}
	if err := d.Migrate(ctx, []*repo.Schema{export.Exports.Schema(), repo.LeaseSchema()}); err != nil {
		return nil, nil, err
	}
	bucket, err := fsblob.Open(filepath.Join(b.dir, "exports"), fsblob.Config{})
	if err != nil {
		return nil, nil, err
	}
	store := repo.New(d, repo.Config{})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err != nil {
		return nil, nil, err
	}
	s, err := export.New(store, bus, bucket, []*export.Dataset{{Name: "made", About: "Rows.", Permission: "made:read", Schema: exportColumns, Time: "created_at",
		Open: func(context.Context, string, export.Slice) (export.Scan, error) { return &madeRows{rows: rows}, nil }}}, export.Config{})
	if err != nil {
		return nil, nil, err
	}
	q, err := memqueue.New(memqueue.Config{})
	if err != nil {
		return nil, nil, err
	}
	if err := q.Ensure(ctx, export.Stream(1, time.Minute), queue.Stream{Name: "REST", Subjects: []string{"events.>", "audit.>"}}); err != nil {
		return nil, nil, err
	}
	r, err := relay.New(store, q, relay.Config{})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	var relayed, worked error
	work.Go(func() { relayed = r.Run(ctx) })
	work.Go(func() { worked = s.Run(ctx, q, 1) })
	return &exporter{s, bucket}, func() error {
		cancel()
		work.Wait()
		return errors.Join(relayed, worked, bucket.Close(), d.Close())
	}, nil
}

// put returns how long it takes to write an object of so many bytes.
func (x *exporter) put(ctx context.Context, size int64) (time.Duration, error) {
	const key = "acme/floor"
	block := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(block) // never fails
	body := io.LimitReader(readerOf(func(p []byte) (int, error) { return copy(p, block), nil }), size)
	began := time.Now()
	if _, err := x.bucket.Put(ctx, key, body, blob.PutOptions{}); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, x.bucket.Delete(ctx, key)
}

// readerOf makes a function a reader.
type readerOf func(p []byte) (int, error)

func (r readerOf) Read(p []byte) (int, error) { return r(p) }

// export has all rows exported, and returns how long that took and how many bytes they are.
func (x *exporter) export(ctx context.Context, f encode.Format, rows int) (time.Duration, int64, error) {
	ctx = access.With(ctx, &access.Principal{Tenant: "acme", Subject: "key_1", Permissions: access.SetOf(export.Read, export.Write, "made:read")})
	began := time.Now()
	e, err := x.Create(ctx, export.Create{Request: export.Request{Dataset: "made", Format: f}})
	if err != nil {
		return 0, 0, err
	}
	for {
		now, err := x.Find(ctx, e.ID)
		if err != nil {
			return 0, 0, err
		}
		switch {
		case now.Status == export.Completed && now.Progress.Rows == int64(rows):
			took := time.Since(began)
			return took, now.Progress.Bytes, x.Delete(ctx, e.ID)
		case now.Final():
			return 0, 0, fmt.Errorf("the export of %s is %s with %d rows: %+v", f, now.Status, now.Progress.Rows, now.Failure)
		}
		if !pause.For(ctx, 5*time.Millisecond) {
			return 0, 0, ctx.Err()
		}
	}
}
