package run

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"math"
	"strconv"
	"testing"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/fsblob"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// classifier is a model of pixels that costs nothing: what is left is what a file's rows take beside their model.
type classifier struct{}

const pixels, classes = 784, 10

func (classifier) Model(string, string) (Model, error) {
	return Model{Version: "1", Best: 64, Same: true, Inputs: []Port{{"x", "FP32", []int64{pixels}}}, Outputs: []Port{{"y", "FP32", []int64{classes}}}}, nil
}

func (classifier) Predict(_ context.Context, q Ask) (Answer, error) {
	rows := int(q.Inputs[0].Shape[0])
	y := make([]byte, 0, 4*classes*rows)
	for n := range rows {
		for i := range classes { // numbers of as many digits as probabilities have
			x := binary.LittleEndian.Uint32(q.Inputs[0].Data[4*(pixels*n+i):])
			y = binary.LittleEndian.AppendUint32(y, math.Float32bits(float32(math.Sqrt(float64(math.Float32frombits(x))+1e-3))/7))
		}
	}
	return Answer{[]Tensor{{"y", "FP32", []int64{int64(rows), classes}, y}}, job.Used{Rows: int64(rows)}}, nil
}

func writePixels(out io.Writer, rows int) error {
	var line []byte
	for row := range rows + 1 {
		line = line[:0]
		for i := range pixels {
			if row == 0 {
				line = append(strconv.AppendInt(append(line, 'p'), int64(i), 10), ',')
			} else {
				line = append(strconv.AppendFloat(line, float64(uint32(row*pixels+i)*2654435761>>24)/256, 'g', -1, 32), ',')
			}
		}
		line[len(line)-1] = '\n'
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkRows has files answered by a model that costs nothing, by one worker: the time is that of a row, and of all that is
// done for it beside the model.
func BenchmarkRows(b *testing.B) {
	for _, c := range []struct {
		format ingest.Format
		rows   int
	}{{ingest.CSV, 16_000}} {
		b.Run(string(c.format), func(b *testing.B) {
			bucket, err := fsblob.Open(b.TempDir(), fsblob.Config{})
			if err != nil {
				b.Fatal(err)
			}
			store := repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{})
			w := NewWorker(store, classifier{}, bucket, Config{Job: job.Config{Used: func(*repo.Tx, *job.Batch, job.Used, bool) error { return nil }}})
			input := job.Object{Key: job.Key(tenant, "file")}
			r, out := io.Pipe()
			go func() {
				buf := bufio.NewWriterSize(out, 1<<20)
				err := writePixels(buf, c.rows)
				_ = out.CloseWithError(cmp.Or(err, buf.Flush()))
			}()
			kept, err := bucket.Put(b.Context(), input.Key, r, blob.PutOptions{})
			if err != nil {
				b.Fatal(err)
			}
			input.ETag = kept.ETag
			spec := ingest.Spec{Inputs: []ingest.Input{{Name: "x", Type: "FP32", Width: pixels}}}
			for i := range pixels {
				spec.Inputs[0].Columns = append(spec.Inputs[0].Columns, "p"+strconv.Itoa(i))
			}
			file, err := ingest.Inspect(b.Context(), Source(bucket, input), ingest.File{Format: c.format}, &spec, ingest.Options{})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				n++
				batch := &job.Batch{Model: "m", ModelVersion: "1", MaxErrorRatio: 1, Spec: spec, Input: input, File: file, Output: job.Output{Format: ingest.CSV}}
				batch.ID = job.ID("batch_" + strconv.Itoa(n))
				m, _ := classifier{}.Model("", "")
				if batch.Output.Head, err = Head(Schema(batch, &m), ingest.CSV); err != nil {
					b.Fatal(err)
				}
				answer(b, w, batch)
				if found, err := job.Batches.Get(b.Context(), store.Read(repo.Scope{Tenant: tenant}), batch.ID); err != nil || found.Counts.Succeeded != int64(c.rows) {
					b.Fatal(found.Counts, found.Failure, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.rows), "ns/row")
		})
	}
}

// answer has one worker do all that there is to do for a batch.
func answer(b *testing.B, w *Worker, batch *job.Batch) {
	err := w.store.Do(b.Context(), repo.Scope{Tenant: tenant}, func(ctx context.Context, tx *repo.Tx) error {
		batch.Accept(tx.Now(), w.cfg.Job.Timing)
		return job.Batches.Add(ctx, tx, batch)
	})
	t := &turn{Worker: w, life: b.Context(), id: batch.ID, scope: repo.Scope{Tenant: tenant, Actor: "system"}}
	defer t.close()
	for more := err == nil; more && err == nil; {
		more, err = t.step(b.Context(), queue.Delivery{})
	}
	if err != nil {
		b.Fatal(err)
	}
}
