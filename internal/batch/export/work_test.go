package export

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
)

// fleet is workers on one queue.
type fleet struct {
	*bed
	queue *memqueue.Queue
}

func newFleet(t *testing.T, rows int) *fleet {
	t.Helper()
	f := &fleet{bed: newBed(t, rows, Config{PartSize: 100_000})}
	var err error
	if f.queue, err = memqueue.New(memqueue.Config{}); err != nil {
		t.Fatal(err)
	}
	if err := f.queue.Ensure(t.Context(), Stream(1, time.Minute), queue.Stream{Name: "EVENTS", Subjects: []string{"events.>"}}); err != nil {
		t.Fatal(err)
	}
	return f
}

// work has what was committed sent, and so many workers take it, until stop is called.
func (f *fleet) work(t *testing.T, workers int) (stop func()) {
	t.Helper()
	r, err := relay.New(f.store, f.queue, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, run := range append([]func(context.Context) error{r.Run}, slices.Repeat([]func(context.Context) error{func(ctx context.Context) error { return f.Run(ctx, f.queue, 2) }}, workers)...) {
		all.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func (f *fleet) await(t *testing.T, id ID, s Status) *Export {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		switch e := f.find(t, id); {
		case e.Status == s:
			return e
		case time.Now().After(deadline):
			t.Fatalf("%s, not %s: %+v", e.Status, s, e.Failure)
		}
	}
}

// Workers share exports: each is run once, and its files do not depend on by whom.
func TestWorkersShareExports(t *testing.T) {
	calm := newBed(t, 2500, Config{PartSize: 100_000})
	e := calm.create(t, Request{Format: encode.CSV, AsOf: calm.time()})
	calm.run(e.ID)
	want := calm.files(t, calm.find(t, e.ID))
	f := newFleet(t, 2500)
	defer f.work(t, 3)()
	var ids []ID
	for range 12 {
		ids = append(ids, f.create(t, Request{Format: encode.CSV, AsOf: f.time()}).ID)
	}
	for _, id := range ids {
		if e := f.await(t, id, Completed); e.Attempt != 1 || !slices.EqualFunc(f.files(t, e), want, bytes.Equal) {
			t.Errorf("attempt %d, or other files", e.Attempt)
		}
	}
}

// What a worker gives back when it stops, another takes at once.
func TestOthersGoOn(t *testing.T) {
	f := newFleet(t, 2500)
	begun := make(chan struct{})
	f.things.each = func(ctx context.Context, chunk int) {
		if chunk == 2 {
			close(begun)
			<-ctx.Done()
		}
	}
	stop := f.work(t, 1)
	e := f.create(t, Request{Format: encode.CSV})
	<-begun
	stop()
	f.await(t, e.ID, Queued)
	f.things.each = nil
	defer f.work(t, 1)()
	if e = f.await(t, e.ID, Completed); e.Attempt != 2 || e.Tries != 1 || len(f.objects(t)) != len(e.Parts) {
		t.Errorf("attempt %d, try %d, %d objects", e.Attempt, e.Tries, len(f.objects(t)))
	}
}
