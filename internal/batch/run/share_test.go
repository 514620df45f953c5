package run

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// Two nodes on one store run chunks of one batch at the same time, each with models of
// its own, and leave the bytes that one leaves alone.
func TestNodes(t *testing.T) {
	alone := newBench(t, ingest.CSV, ingest.CSV, 400)
	want := alone.content(alone.finish(1))

	b := newBench(t, ingest.CSV, ingest.CSV, 400)
	if _, err := b.turn().step(t.Context(), queue.NewDelivery(queue.Message{}, 1, nil)); err != nil { // one plans
		t.Fatal(err)
	}
	second := &doubler{}
	second.poisoned.Store(true)
	nodes := []*Worker{b.worker, NewWorker(b.store, second, b.bucket, b.worker.cfg)}
	var there sync.WaitGroup
	both := make(chan struct{})
	there.Add(2)
	go func() { there.Wait(); close(both) }()
	for _, m := range []*doubler{b.model, second} {
		arrive := sync.OnceFunc(there.Done)
		m.fail = func() error {
			arrive()
			select {
			case <-both:
				return nil
			case <-time.After(20 * time.Second):
				return fault.New(fault.Invalid, "the other node runs no chunk")
			}
		}
	}
	var all sync.WaitGroup
	for _, w := range nodes {
		all.Go(func() {
			if err := b.workOf(t.Context(), w); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	found := b.finish(1)
	if got := b.content(found); got != want || found.Results.SHA256 != alone.find().Results.SHA256 {
		t.Errorf("other results than of one node: %d bytes, %d", len(got), len(want))
	}
	if a, c := b.model.rows.Load(), second.rows.Load(); a == 0 || c == 0 || a+c != found.Counts.Succeeded {
		t.Errorf("the nodes ran %d and %d rows of %d", a, c, found.Counts.Succeeded)
	}
	b.tidy(found)
}

// The rows that are run together are the batch's, whatever each process thinks best.
func TestRunRows(t *testing.T) {
	content := func(best ...int) string {
		b := newBench(t, ingest.CSV, ingest.CSV, 100)
		b.worker.cfg.ChunkRows = 50
		if _, err := b.turn().update(t.Context(), func(x *job.Batch, _ time.Time) error { x.RunRows = 5; return nil }); err != nil {
			t.Fatal(err)
		}
		for _, n := range best { // each does one step, and the last the rest
			b.worker = NewWorker(b.store, &doubler{best: n, company: true}, b.bucket, b.worker.cfg)
			if _, err := b.turn().step(t.Context(), queue.NewDelivery(queue.Message{}, 1, nil)); err != nil {
				t.Fatal(err)
			}
		}
		return b.content(b.finish(1))
	}
	if one, others := content(5), content(2, 3, 32); one != others {
		t.Error("other results of processes that think other sizes best")
	}
}

// A file in which all ids are the same takes no more of the ledger than another.
func TestManyTwice(t *testing.T) {
	const rows = 3000
	var text strings.Builder
	text.WriteString("id,x,note\n")
	for i := range rows {
		fmt.Fprintf(&text, "same,%d,n\n", i)
	}
	b := newBenchOf(t, ingest.CSV, ingest.JSONL, rows, text.String())
	b.worker.cfg.ChunkRows = 1000
	found := b.finish(2)
	if found.Counts != (job.Counts{Total: rows, Succeeded: 1, Failed: rows - 1}) || found.Errors[0].Code != ingest.CodeDuplicate {
		t.Errorf("%+v, %+v", found.Counts, found.Errors[0])
	}
	ledger, err := json.Marshal(found.Chunks)
	if err != nil || len(ledger) > 3*1500 {
		t.Errorf("the ledger has %d bytes, %v", len(ledger), err)
	}
	b.tidy(found)
}

// A file that becomes another while it is read fails the batch, whose rows so far are
// kept.
func TestFileChanges(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 200)
	var runs atomic.Int64
	b.model.fail = func() error {
		if runs.Add(1) == 20 {
			_, err := b.bucket.Put(t.Context(), b.find().Input.Key, strings.NewReader(file(ingest.CSV, 201)), blob.PutOptions{})
			return err
		}
		return nil
	}
	for range 50 { // each turn opens the file again
		turn := b.turn()
		_, err := turn.step(t.Context(), queue.NewDelivery(queue.Message{}, 1, nil))
		turn.close()
		if err != nil {
			t.Fatal(err)
		}
	}
	found := b.find()
	if found.Status != job.Failed || found.Failure.Code != "input_changed" || found.Counts.Succeeded == 0 || found.Counts.Pending() != 0 {
		t.Fatalf("%s, %+v, %+v", found.Status, found.Failure, found.Counts)
	}
	if lines := strings.Count(b.content(found), "\n"); int64(lines) != found.Counts.Succeeded+found.Counts.Failed {
		t.Errorf("%d rows of results for %+v", lines, found.Counts)
	}
	if _, _, err := Source(b.bucket, found.Input).(ingest.Random).File(t.Context()); fault.CodeOf(err) != "input_changed" {
		t.Error(err)
	}
	b.tidy(found)
}
