package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenant = "acme"
	poison = 666
)

// doubler is a model that doubles numbers and cannot bear some.
type doubler struct {
	poisoned atomic.Bool
	absent   atomic.Bool
	same     bool         // its answers depend on nothing but the row
	best     int          // rows of a run; 0: 7
	company  bool         // its answers say how many rows were run together
	fail     func() error // before each run; nil: never
	rows     atomic.Int64
	wide     int64            // elements of the output z; 0: 2
	deadly   map[float32]bool // numbers that end the process: kill is called then
	kill     func()
}

func (d *doubler) Model(string, string) (Model, error) {
	if d.absent.Load() {
		return Model{}, fault.New(fault.NotFound, "there is no such model").WithCode("model_not_found")
	}
	port := []Port{{Name: "x", Type: "FP32", Shape: []int64{1}}}
	return Model{Version: "1", Inputs: port, Best: cmp.Or(d.best, 7), Same: d.same, Outputs: []Port{{Name: "y", Type: "FP32"}, {Name: "z", Type: "INT64", Shape: []int64{cmp.Or(d.wide, 2)}}, {Name: "s", Type: ingest.Bytes, Shape: []int64{1}}}}, nil
}

func (d *doubler) Predict(ctx context.Context, q Ask) (a Answer, err error) {
	in := q.Inputs
	if q.AsOf.IsZero() {
		return a, fault.New(fault.Internal, "nobody says as of when")
	}
	if d.fail != nil {
		if err := d.fail(); err != nil {
			return a, err
		}
	}
	rows := in[0].Shape[0]
	together := uint64(7)
	if d.company {
		together = uint64(rows)
	}
	var y, z, s []byte
	for i := range rows {
		x := math.Float32frombits(binary.LittleEndian.Uint32(in[0].Data[4*i:]))
		if d.deadly[x] {
			d.kill()
			return a, fault.New(fault.Canceled, "the process is dead")
		}
		if x == poison && d.poisoned.Load() {
			return a, fault.New(fault.Internal, "the model cannot bear it").WithCode("poisoned")
		}
		y = binary.LittleEndian.AppendUint32(y, math.Float32bits(2*x))
		z = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(z, uint64(int64(x))), together)
		for range max(d.wide-2, 0) {
			z = binary.LittleEndian.AppendUint64(z, 7)
		}
		text := fmt.Sprintf("a \"%v\",\nb", x)
		s = append(binary.LittleEndian.AppendUint32(s, uint32(len(text))), text...)
	}
	d.rows.Add(rows)
	return Answer{[]Tensor{{"y", "FP32", []int64{rows}, y}, {"z", "INT64", []int64{rows, cmp.Or(d.wide, 2)}, z}, {"s", ingest.Bytes, []int64{rows, 1}, s}}, job.Used{Rows: rows, ComputeUS: rows}}, ctx.Err()
}

// bench is a store with one batch, and workers.
type bench struct {
	t      *testing.T
	store  *repo.Store
	bucket *memblob.Bucket
	worker *Worker
	model  *doubler
	ahead  atomic.Int64 // of the clock, in nanoseconds
	used   job.Used
	ended  int
	mu     sync.Mutex
}

const id = job.ID("batch_1")

// table is a file with rows of which some are bad, and some poisoned.
func file(format ingest.Format, rows int) string {
	var b strings.Builder
	if format == ingest.CSV {
		b.WriteString("id,x,note\n")
	}
	for i := range rows {
		x, name := fmt.Sprint(i), fmt.Sprintf("r%d", i)
		switch i % 100 {
		case 13:
			x = `"bad"`
		case 47, 48, 50:
			x = fmt.Sprint(poison)
		case 80:
			name = "r1"
		}
		if format == ingest.CSV {
			fmt.Fprintf(&b, "%s,%s,\"n,\n%d\"\n", name, x, i)
		} else {
			fmt.Fprintf(&b, `{"id":"%s","x":%s,"note":{"n":%d}}`+"\n", name, x, i)
		}
	}
	return b.String()
}

func newBench(t *testing.T, in, out ingest.Format, rows int) *bench {
	t.Helper()
	return newBenchOf(t, in, out, rows, "")
}

// newBenchOf is newBench of a file, unless that is empty.
func newBenchOf(t *testing.T, in, out ingest.Format, rows int, text string) *bench {
	t.Helper()
	b := &bench{t: t, bucket: memblob.New(memblob.Config{}), model: &doubler{}}
	b.model.poisoned.Store(true)
	b.store = repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }})
	cfg := Config{ChunkRows: 30, Job: job.Config{Used: func(tx *repo.Tx, _ *job.Batch, u job.Used, ended bool) error {
		tx.AfterCommit(func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.used.Add(u); ended {
				b.ended++
			}
		})
		return nil
	}}}
	b.worker = NewWorker(b.store, b.model, b.bucket, cfg)
	batch := &job.Batch{Model: "m", ModelVersion: "1", MaxErrorRatio: 1, Output: job.Output{Format: out},
		Spec: ingest.Spec{Inputs: []ingest.Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{"x"}}}, ID: "id", Keep: []string{"note"}}}
	batch.ID, batch.Input.Key = id, job.Key(tenant, id)
	if text == "" {
		text = file(in, rows)
	}
	kept, err := b.bucket.Put(t.Context(), batch.Input.Key, strings.NewReader(text), blob.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	batch.Input.ETag = kept.ETag
	if batch.File, err = ingest.Inspect(t.Context(), Source(b.bucket, batch.Input), ingest.File{Format: in}, &batch.Spec, ingest.Options{}); err != nil {
		t.Fatal(err)
	}
	m, _ := b.model.Model("", "")
	if batch.Output.Head, err = Head(Schema(batch, &m), out); err != nil {
		t.Fatal(err)
	}
	err = b.store.Do(t.Context(), repo.Scope{Tenant: tenant}, func(ctx context.Context, tx *repo.Tx) error {
		batch.Accept(tx.Now(), b.worker.cfg.Job.Timing)
		return job.Batches.Add(ctx, tx, batch)
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) turn() *turn {
	return b.turnOf(b.worker)
}

func (b *bench) turnOf(w *Worker) *turn {
	return &turn{Worker: w, life: b.t.Context(), id: id, scope: repo.Scope{Tenant: tenant, Actor: "system"}}
}

func (b *bench) find() job.Batch {
	b.t.Helper()
	found, err := job.Batches.Get(context.Background(), b.store.Read(repo.Scope{Tenant: tenant}), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

// work has a worker do what there is to do.
func (b *bench) work(ctx context.Context) error { return b.workOf(ctx, b.worker) }

func (b *bench) workOf(ctx context.Context, w *Worker) error {
	t := b.turnOf(w)
	defer t.close()
	for {
		more, err := t.step(ctx, queue.NewDelivery(queue.Message{}, 1, nil))
		if err != nil || !more {
			return err
		}
	}
}

// finish has workers come again until the batch has ended.
func (b *bench) finish(workers int) job.Batch {
	b.t.Helper()
	for range 200 {
		var all sync.WaitGroup
		for range workers {
			all.Go(func() { _ = b.work(context.Background()) })
		}
		all.Wait()
		if found := b.find(); found.Status.Final() {
			return found
		}
		b.ahead.Add(int64(b.worker.cfg.Job.Lease))
	}
	b.t.Fatalf("the batch does not end: %+v", b.find())
	return job.Batch{}
}

func (b *bench) content(found job.Batch) string {
	b.t.Helper()
	text := []byte(found.Output.Head)
	t := b.turn()
	for i := range found.Chunks {
		if found.Chunks[i].Result.Key == "" {
			continue
		}
		part, err := t.load(b.t.Context(), found.Chunks[i].Result)
		if err != nil {
			b.t.Fatal(err)
		}
		text = append(text, part...)
	}
	return string(text)
}

// objects are those that the batch names, which must be all that there are.
func (b *bench) tidy(found job.Batch) {
	b.t.Helper()
	for info, err := range b.bucket.List(b.t.Context(), "", "") {
		if err != nil || !found.Names(info.Key) {
			b.t.Errorf("%s is left, %v", info.Key, err)
		}
	}
}

var ways = []struct{ in, out ingest.Format }{{ingest.CSV, ingest.CSV}, {ingest.CSV, ingest.JSONL}, {ingest.JSONL, ingest.CSV}, {ingest.JSONL, ingest.JSONL}}

// Bad rows, poisoned ones and duplicates fail, and no others; everything is in order.
func TestRows(t *testing.T) {
	b := newBench(t, ingest.JSONL, ingest.JSONL, 250)
	found := b.finish(1)
	if found.Status != job.Completed || found.Outcome() != "partial" || found.Counts != (job.Counts{Total: 250, Succeeded: 237, Failed: 13}) {
		t.Fatalf("%+v, %+v", found.Status, found.Counts)
	}
	lines := strings.Split(strings.TrimSpace(b.content(found)), "\n")
	if len(lines) != 250 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		var row struct {
			ID     string          `json:"row_id"`
			Index  int             `json:"index"`
			Status string          `json:"status"`
			Y      *float64        `json:"y"`
			Z      []int           `json:"z"`
			S      *string         `json:"s"`
			Note   json.RawMessage `json:"note"`
			Code   string          `json:"error_code"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		want := map[int]string{13: ingest.CodeType, 47: "poisoned", 48: "poisoned", 50: "poisoned", 80: ingest.CodeDuplicate}[i%100]
		if row.Index != i || row.Code != want || (row.Status == "failed") != (want != "") || string(row.Note) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Errorf("row %d: %s", i, line)
		}
		if want == "" && (row.Y == nil || *row.Y != float64(2*i) || row.Z[0] != i || row.Z[1] != 7 || *row.S != fmt.Sprintf("a \"%d\",\nb", i)) {
			t.Errorf("row %d: %s", i, line)
		}
	}
	if len(found.Errors) != 13 || found.Errors[0].Index != 13 || found.Errors[0].Line != 14 || found.Errors[4].Index != 80 {
		t.Errorf("%+v", found.Errors)
	}
	if b.used.Rows != found.Counts.Succeeded || b.ended != 1 || found.Results.SHA256 == "" {
		t.Errorf("used %+v, ended %d, %+v", b.used, b.ended, found.Results)
	}
	b.tidy(found)
}

// Several workers, of which some die in the middle and some meet a model that comes and
// goes, leave the same bytes as one that nothing disturbs.
func TestDisturbed(t *testing.T) {
	for _, way := range ways {
		quiet := newBench(t, way.in, way.out, 400)
		want := quiet.content(quiet.finish(1))

		b := newBench(t, way.in, way.out, 400)
		for round := range 8 { // workers that are stopped, and such as claim and are never heard of again
			if round%3 == 0 {
				if _, err := b.turn().update(t.Context(), func(x *job.Batch, now time.Time) error { x.Claim(now, b.worker.cfg.Job.Timing); return nil }); err != nil {
					t.Fatal(err)
				}
				b.ahead.Add(int64(b.worker.cfg.Job.Lease))
			}
			ctx, kill := context.WithCancel(t.Context())
			var n atomic.Int64
			b.model.fail = func() error {
				switch n.Add(1) {
				case 3:
					return fault.New(fault.Unavailable, "not now").WithRetryAfter(time.Millisecond)
				case 12:
					kill()
				}
				return nil
			}
			for range 3 {
				_ = b.work(ctx)
				b.ahead.Add(int64(time.Second))
			}
			kill()
			if b.find().Status.Final() {
				t.Fatalf("it ended in round %d: nothing was disturbed", round)
			}
		}
		b.model.fail = nil
		found := b.finish(3)
		if got := b.content(found); got != want || found.Results.SHA256 != quiet.find().Results.SHA256 {
			t.Errorf("%v: other results than without disturbances: %d bytes, %d", way, len(got), len(want))
		}
		if b.used.Rows != found.Counts.Succeeded || b.ended != 1 {
			t.Errorf("used %+v for %+v, ended %d times", b.used, found.Counts, b.ended)
		}
		b.tidy(found)
	}
}

// A retry runs the failed rows only, and merges them in their place.
func TestRetry(t *testing.T) {
	for _, way := range ways {
		b := newBench(t, way.in, way.out, 250)
		first := b.finish(1)
		b.model.poisoned.Store(false)
		b.model.rows.Store(0)
		if _, err := b.turn().update(t.Context(), func(x *job.Batch, now time.Time) error { return x.Retry(now, b.worker.cfg.Job.Timing) }); err != nil {
			t.Fatal(err)
		}
		second := b.finish(2)
		if second.Counts.Succeeded != first.Counts.Succeeded+8 || second.Counts.Failed != 5 || b.model.rows.Load() != 8 {
			t.Fatalf("%+v after %+v, %d rows were run", second.Counts, first.Counts, b.model.rows.Load())
		}
		healthy := newBench(t, way.in, way.out, 250)
		healthy.model.poisoned.Store(false)
		if b.content(second) != healthy.content(healthy.finish(1)) {
			t.Errorf("%v: other results than if nothing had failed", way)
		}
		b.tidy(second)
	}
}

func TestCancelled(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.CSV, 400)
	var done atomic.Int64
	b.model.fail = func() error {
		if done.Add(1) == 20 {
			_, err := b.turn().update(t.Context(), func(x *job.Batch, now time.Time) error { x.Cancel(now, b.worker.cfg.Job.Timing); return nil })
			return err
		}
		return nil
	}
	found := b.finish(1)
	if found.Status != job.Cancelled || found.Counts.Cancelled == 0 || found.Counts.Succeeded == 0 || found.Counts.Pending() != 0 || found.Results.Rows != found.Counts.Succeeded+found.Counts.Failed {
		t.Fatalf("%s, %+v, %+v", found.Status, found.Counts, found.Results)
	}
	b.tidy(found)
}

// What is wrong with the file as a whole fails the batch, and says where.
func TestBadFile(t *testing.T) {
	b := newBenchOf(t, ingest.CSV, ingest.CSV, 100, file(ingest.CSV, 100)+"r100,1,\"never closed\n")
	if found := b.finish(1); found.Status != job.Completed || found.Counts.Total != 101 || found.Errors[len(found.Errors)-1].Code != ingest.CodeQuote || found.Errors[len(found.Errors)-1].Line != 202 {
		t.Errorf("%s, %+v, %+v", found.Status, found.Failure, found.Errors)
	}
	b = newBench(t, ingest.CSV, ingest.CSV, 100)
	b.worker.cfg.MaxRows = 99
	if found := b.finish(1); found.Status != job.Failed || found.Failure.Code != "batch_too_many_rows" {
		t.Errorf("%s, %+v", found.Status, found.Failure)
	}
	b = newBench(t, ingest.CSV, ingest.CSV, 100)
	if _, err := b.turn().step(t.Context(), queue.NewDelivery(queue.Message{}, 1, nil)); err != nil {
		t.Fatal(err)
	}
	if err := b.bucket.Delete(t.Context(), b.find().Input.Key); err != nil {
		t.Fatal(err)
	}
	if found := b.finish(1); found.Status != job.Failed || found.Failure.Code != "input_changed" || found.Counts.Pending() != 0 {
		t.Errorf("%s, %+v", found.Status, found.Failure)
	}
}

// A model that is gone for good ends the batch, with what was done before.
func TestModelVanishes(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 100)
	var runs atomic.Int64
	b.model.fail = func() error {
		if runs.Add(1) == 8 {
			b.model.absent.Store(true)
		}
		return nil
	}
	found := b.finish(1)
	if found.Status != job.Failed || found.Counts.Succeeded == 0 || found.Counts.Cancelled == 0 || found.Failure.Code != "model_not_found" || !found.Failure.Retryable {
		t.Errorf("%s, %+v, %+v", found.Status, found.Counts, found.Failure)
	}
}

// What needs no model is done without: a batch that was cancelled ends.
func TestCancelledWithoutModel(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 100)
	if _, err := b.turn().step(t.Context(), queue.NewDelivery(queue.Message{}, 1, nil)); err != nil {
		t.Fatal(err)
	}
	b.model.absent.Store(true)
	message := func(attempt int) error {
		m, err := relay.Encode(&repo.Message{ID: "m", Stream: "batches", Type: "batch.due", Key: repo.Key{Tenant: tenant, Kind: job.Batches.Name, ID: string(id)}})
		if err != nil {
			t.Fatal(err)
		}
		return b.worker.handle(t.Context(), t.Context(), queue.NewDelivery(m, attempt, nil))
	}
	if err := message(1); fault.CodeOf(err) != "model_not_here" || !fault.Is(err, fault.Unavailable) {
		t.Fatalf("%v", err)
	}
	if err := message(asked); err != nil {
		t.Fatalf("the message goes around for ever: %v", err)
	}
	if found := b.find(); found.Status != job.Running || found.Absent.IsZero() {
		t.Fatalf("%+v", found)
	}
	if _, err := b.turn().update(t.Context(), func(x *job.Batch, now time.Time) error { x.Cancel(now, b.worker.cfg.Job.Timing); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := message(1); err != nil || b.find().Status != job.Cancelled {
		t.Errorf("%v, %s", err, b.find().Status)
	}
}

// A run that is refused for now is asked for again, and costs the chunk nothing.
func TestRefused(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 30)
	var runs atomic.Int64
	b.model.fail = func() error {
		if runs.Add(1)%3 == 0 {
			return fault.New(fault.Exhausted, "the queue is full").WithRetryAfter(time.Millisecond)
		}
		return nil
	}
	if err := b.work(t.Context()); err != nil || b.find().Counts.Succeeded != 29 && b.find().Status != job.Completed {
		t.Errorf("%v, %+v", err, b.find())
	}
}

// What a chunk failed of at last is in the failure.
func TestCause(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 30)
	b.model.fail = func() error { return fault.New(fault.DeadlineExceeded, "the model is too slow") }
	if found := b.finish(1); found.Failure == nil || found.Failure.Code != "attempts_exhausted" || !strings.Contains(found.Failure.Message, "the model is too slow") {
		t.Errorf("%+v", found.Failure)
	}
}

func TestCellType(t *testing.T) {
	for _, shape := range [][]int64{{-1, -1}, {-1}, {2}, {0}} {
		if got := cellType(Port{Type: "FP32", Shape: shape}); got != table.JSON {
			t.Errorf("%v: %v", shape, got)
		}
	}
	if got := cellType(Port{Type: "FP32", Shape: []int64{1, 1}}); got != table.Float32 {
		t.Errorf("%v", got)
	}
	one, none := []Port{{Name: "y", Type: "FP32"}}, []Tensor{{"y", "FP32", []int64{2, 0}, nil}}
	if fault.CodeOf(fits(none, one, 2)) != "output_shape" || fault.CodeOf(fits([]Tensor{{"y", "INT8", []int64{2}, nil}}, one, 2)) != "output_type" || fits(nil, one, 2) == nil {
		t.Error("outputs that the model does not have are taken")
	}
	for _, short := range []Tensor{{"y", "FP32", []int64{2}, make([]byte, 7)}, {"y", ingest.Bytes, []int64{2}, []byte{1, 0, 0, 0, 'a'}}} {
		if _, err := indexed([]Tensor{short}, 2); fault.CodeOf(err) != "output_shape" {
			t.Errorf("%s: %v", short.Type, err)
		}
	}
}

func TestIDs(t *testing.T) {
	var s ids
	for h := uint64(1); h < 20_000; h += 2 {
		if !s.add(h) || s.add(h) {
			t.Fatalf("%d", h)
		}
	}
}

func TestMerge(t *testing.T) {
	got := merge([]byte("a,\"x\ny\"\r\nb,1\r\nc,2\r\n"), []byte("B,\"\n\"\r\n"), ingest.CSV, []int{1})
	if want := "a,\"x\ny\"\r\nB,\"\n\"\r\nc,2\r\n"; !bytes.Equal(got, []byte(want)) {
		t.Errorf("%q", got)
	}
}
