// Package run works on batches: it cuts their files into chunks, has a model answer
// each chunk's rows, and writes what it says as a part of the results.
//
// A chunk is the unit of everything: it is read, decoded, predicted in runs of the
// model's best size, encoded and kept by one worker, and counted by one commit.
// As many chunks are under way in a process as its consumer runs handlers, so that
// the reading and encoding of some is beside the computing of others, in the memory
// of that many chunks.
//
// A row that ends the process is found by the notes that workers make once several have
// died at its chunk, see job.Danger: it fails then, and the others are answered. While
// notes are made, the process does nothing else for batches, so that they tell of one row.
package run

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spare"
)

// Port is an input or output of a model, and Shape what one row of it has.
type Port struct {
	Name  string
	Type  ingest.Type
	Shape []int64 // -1: it varies
}

// Model is what has to be known of a model to run rows on it.
type Model struct {
	Version string
	Inputs  []Port
	Outputs []Port
	Best    int // rows of a run, for the most rows per second; what a process thinks best may change
	Pace    Pace
	Same    bool // a row's answer depends on nothing but the row, by what was measured
}

// Tensor is a tensor of some rows, the first extent of whose shape is their number.
// Its data is as the Open Inference Protocol has it.
type Tensor struct {
	Name  string
	Type  ingest.Type
	Shape []int64
	Data  []byte
}

// Answer is what a model gave.
type Answer struct {
	Outputs []Tensor // as the model has them, in its order
	Used    job.Used
}

// Predictor has models answer, in the class of work that waits for spare rows.
type Predictor interface {
	// Model describes a version that this process has, or would answer with where
	// version is empty. Its error says why rows cannot be run on it.
	Model(model, version string) (Model, error)
	// Predict runs rows. An error that is the rows' own is Invalid or Internal.
	Predict(ctx context.Context, a Ask) (Answer, error)
}

// Ask asks for the answers to rows.
type Ask struct {
	Tenant, Model, Version string
	AsOf                   time.Time // what the server adds to them is what was known then
	Inputs                 []Tensor
}

// Bucket is what workers need of a bucket.
type Bucket interface {
	blob.Reader
	blob.Writer
}

// Config holds the settings of workers; the zero value has defaults.
type Config struct {
	Job       job.Config
	MaxRows   int64             // of a batch; default 10,000,000
	Options   ingest.Options    // of reading
	ChunkRows int               // default 16384
	ChunkSize int64             // bytes of the file, and a quarter of its answers; default 16 MiB, and more in files of many chunks
	Workers   int               // that share a batch; default 4
	Slice     time.Duration     // after which others' batches have their turn; default 10s
	Drain     time.Duration     // for chunks to end when a worker stops; default 10s
	CPU       *spare.Processors // that work takes turns on; nil: it takes what it wants
	Forecasts *Forecasts        // that learn from what ends; nil: none that others see
	Metrics   *Metrics          // nil counts nothing that is seen
	Log       *slog.Logger      // nil discards
}

func (c Config) withDefaults() Config {
	c.Job = c.Job.WithDefaults()
	if c.MaxRows <= 0 {
		c.MaxRows = 10_000_000
	}
	if c.ChunkRows <= 0 {
		c.ChunkRows = 16384
	}
	if c.ChunkSize <= 0 {
		c.ChunkSize = 16 << 20
	}
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.Slice <= 0 {
		c.Slice = 10 * time.Second
	}
	if c.Drain <= 0 {
		c.Drain = 10 * time.Second
	}
	if c.Forecasts == nil {
		c.Forecasts = NewForecasts()
	}
	if c.Metrics == nil {
		c.Metrics, _ = NewMetrics(nil) // which cannot fail
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Worker works on batches that the queue says are due.
type Worker struct {
	store     *repo.Store
	predictor Predictor
	bucket    Bucket
	cfg       Config
	steps     *semaphore.Weighted // under way, see enter
	shelf     shelf
}

// NewWorker returns a worker.
func NewWorker(store *repo.Store, p Predictor, b Bucket, cfg Config) *Worker {
	return &Worker{store: store, predictor: p, bucket: b, cfg: cfg.withDefaults(), steps: semaphore.NewWeighted(everyone)}
}

// maxDeliveries is so high that no message is given up that is one: attempts are
// counted in the store.
const maxDeliveries = 1 << 20

// Run takes work from the queue until ctx ends, and then finishes what it has.
func (w *Worker) Run(ctx context.Context, q queue.Consuming, concurrency int) error {
	return q.Consume(ctx, queue.Consumer{Name: "batches", Stream: job.StreamName, Concurrency: concurrency, Lease: w.cfg.Job.Lease, Drain: w.cfg.Drain,
		MaxAttempts: maxDeliveries, Backoff: queue.Backoff{Min: 100 * time.Millisecond, Max: w.cfg.Job.Lease}}, func(handling context.Context, d queue.Delivery) error {
		work, stop := outlive(ctx, handling)
		defer stop()
		return w.handle(ctx, work, d)
	})
}

// outlive returns the context of work on a delivery: it ends with the delivery's, but
// not because that counts as dead in the queue, which is only to be told of what is due.
// What a worker has claimed in the store is its own whether the queue is there or not,
// until taking ends.
func outlive(taking, handling context.Context) (context.Context, context.CancelFunc) {
	work, stop := context.WithCancel(context.WithoutCancel(handling))
	go func() {
		defer stop()
		select {
		case <-handling.Done():
		case <-work.Done():
			return
		}
		if errors.Is(context.Cause(handling), queue.ErrLeaseLost) {
			select {
			case <-taking.Done():
			case <-work.Done():
			}
		}
	}()
	return work, stop
}

// handle works on one batch until there is nothing to do, or its slice is over.
func (w *Worker) handle(taking, ctx context.Context, d queue.Delivery) error {
	m, err := relay.Decode(&d.Message)
	if err != nil {
		return err
	}
	life, end := context.WithCancel(ctx)
	defer end()
	t := &turn{Worker: w, life: life, id: job.ID(m.Key.ID), scope: repo.Scope{Tenant: m.Tenant, Actor: "system", Correlation: m.Correlation, Causation: m.ID, TraceParent: m.TraceParent}}
	defer t.end()
	extended := w.store.Now()
	for until := extended.Add(w.cfg.Slice); ; {
		if now := w.store.Now(); now.Sub(extended) > w.cfg.Job.Lease/3 { // steps may be too short to do it
			extended = now
			_ = d.Extend(ctx) // else it comes again, which costs a look
		}
		more, err := t.step(ctx, d)
		switch {
		case errors.Is(err, repo.ErrNotFound), errors.Is(err, job.ErrStale), err == nil && !more:
			return nil
		case errors.Is(err, errNotHere) && d.Attempt >= asked:
			return nil // the next reminder asks again
		case err != nil:
			return err
		case taking.Err() != nil || w.store.Now().After(until):
			return t.announce(ctx, 1)
		}
	}
}

// turn is a worker's time with one batch.
type turn struct {
	*Worker
	life  context.Context //nolint:containedctx // its own: the file is open from step to step, and ends with it
	id    job.ID
	scope repo.Scope
	open  ingest.Reader // of the batch's file; nil for none
	own   *memory       // of the step before; nil for none
	cpu   *spare.Turn   // while it computes; nil for none
	alone bool          // the next step is, see enter
}

// take returns memory that nobody else has, until give. What a step takes that fails nobody
// gets: runs that were given up may still read it.
func (t *turn) take() *memory {
	if m := t.own; m != nil {
		t.own = nil
		return m
	}
	return t.shelf.take()
}

// give keeps the memory for the turn's next step.
func (t *turn) give(m *memory) { t.own = m }

// end closes what the turn has open, and leaves its memory to others.
func (t *turn) end() {
	t.close()
	if t.own != nil {
		t.shelf.put(t.own)
		t.own = nil
	}
}

func (t *turn) close() {
	if t.open != nil {
		_ = t.open.Close()
		t.open = nil
	}
}

// onSpare has f run on a processor that requests leave, of which it lets go again and again by
// calling yield.
func (t *turn) onSpare(ctx context.Context, f func() error) (err error) {
	if not := t.cfg.CPU.Do(ctx, func(cpu *spare.Turn) {
		t.cpu = cpu
		defer func() { t.cpu = nil }()
		err = f()
	}); not != nil {
		return fault.Wrap(fault.Canceled, not, "the step is not done")
	}
	return err
}

// yield lets requests go first, in what runs by onSpare.
func (t *turn) yield() {
	if t.cpu != nil {
		t.cpu.Yield(t.life)
	}
}

// announce calls so many workers.
func (t *turn) announce(ctx context.Context, workers int) error {
	return t.store.Do(ctx, t.scope, func(ctx context.Context, tx *repo.Tx) error {
		b, err := job.Batches.Get(ctx, tx, t.id)
		if err != nil {
			return err
		}
		return job.Announce(tx, &b, workers)
	})
}

// update changes the batch.
func (t *turn) update(ctx context.Context, f func(b *job.Batch, now time.Time) error) (b job.Batch, err error) {
	err = t.store.Do(ctx, t.scope, func(ctx context.Context, tx *repo.Tx) error {
		b, err = job.Update(ctx, tx, t.id, t.cfg.Job, func(b *job.Batch) error { return f(b, tx.Now()) })
		return err
	})
	return b, err
}

// errNotHere is said of a batch that waits for a process that has its model.
var errNotHere = fault.New(fault.Unavailable, "this process does not have the model: another may").WithCode("model_not_here").WithRetryAfter(time.Second)

// asked is how many processes a message asks for the model, which takes about as long
// as it is until the next.
const asked = 20

// claim claims the next thing to do. It takes the model only where that does.
func (t *turn) claim(ctx context.Context) (b job.Batch, c job.Claim, err error) {
	waits := false
	b, err = t.update(ctx, func(b *job.Batch, now time.Time) error {
		if _, err := t.predictor.Model(b.Model, b.ModelVersion); err == nil || fault.Of(err).Kind == fault.Unprocessable {
			c, waits = b.Claim(now, t.cfg.Job.Timing), false
			return nil
		}
		since := b.Absent
		if c, waits = b.ClaimWithout(now, t.cfg.Job.Timing); waits && b.Absent.Equal(since) {
			return errNotHere // there is nothing to be kept
		}
		return nil
	})
	if err == nil && waits {
		err = errNotHere
	}
	return b, c, err
}

// step claims the next thing to do and does it. It returns whether there was any.
func (t *turn) step(ctx context.Context, d queue.Delivery) (more bool, err error) {
	alone := t.alone
	t.alone = false
	leave, err := t.enter(ctx, alone)
	if err != nil {
		return false, err
	}
	defer leave()
	b, claim, err := t.claim(ctx)
	if err != nil || claim.Step == job.Nothing {
		return false, err
	}
	if claim.Step == job.Compute && b.Chunks[claim.Chunk].Careful() && !alone {
		t.alone = true
		_, err := t.update(ctx, func(b *job.Batch, now time.Time) error { return b.GiveBack(claim, true, 0, now, t.cfg.Job.Timing) })
		return err == nil, err
	}
	run, stop := context.WithCancel(ctx)
	var alive sync.WaitGroup
	alive.Go(func() { t.keepAlive(run, claim, d, stop) })
	err = t.do(run, &b, claim)
	lost := run.Err() != nil && ctx.Err() == nil
	if err != nil && claim.Step == job.Compute {
		outcome := "failed"
		if lost || errors.Is(err, job.ErrStale) {
			outcome = "lost"
		}
		t.cfg.Metrics.chunks.WithLabelValues(outcome).Inc()
	}
	stop()
	alive.Wait()
	switch {
	case err == nil:
		return true, nil
	case lost:
		return true, nil // its claim is another's by now
	}
	return t.failed(context.WithoutCancel(ctx), &b, claim, err, ctx.Err() != nil)
}

func (t *turn) do(ctx context.Context, b *job.Batch, c job.Claim) error {
	switch c.Step {
	case job.Plan:
		return t.plan(ctx, b, c)
	case job.Compute:
		return t.compute(ctx, b, c)
	}
	return t.finalize(ctx, b, c)
}

// failed says what became of a step that could not be done.
func (t *turn) failed(ctx context.Context, b *job.Batch, c job.Claim, cause error, stopping bool) (more bool, err error) {
	t.close()
	if errors.Is(cause, job.ErrStale) || errors.Is(cause, repo.ErrNotFound) {
		return true, nil
	}
	f := fault.Of(cause)
	ends := c.Step != job.Finalize && !stopping && (f.Kind == fault.Unprocessable || f.Kind == fault.NotFound && fault.CodeOf(cause) != "model_not_found")
	_, err = t.update(ctx, func(b *job.Batch, now time.Time) error {
		if ends {
			return b.Fail(c, job.Failure{Code: fault.CodeOf(f), Message: f.Text()}, lines(f), now, t.cfg.Job.Timing)
		}
		innocent := stopping || f.Kind == fault.Unavailable || f.Kind == fault.Exhausted || f.Kind == fault.Canceled
		if text := fault.Clip(f.Text(), 300); !innocent {
			b.Cause = text
		} else if f.Kind == fault.Unavailable && !stopping {
			b.Wait(fault.CodeOf(f), text, now)
		}
		pause := max(f.RetryAfter, time.Second)
		if stopping {
			pause = 0
		}
		return b.GiveBack(c, innocent, pause, now, t.cfg.Job.Timing)
	})
	switch {
	case err != nil && !errors.Is(err, job.ErrStale):
		return false, err
	case stopping:
		return false, fault.Wrap(fault.Unavailable, cause, "the worker stops").WithCode("worker_stops")
	case ends:
		return true, nil
	}
	t.cfg.Log.WarnContext(ctx, "a step of a batch failed, and is tried again", "batch", string(b.ID), "chunk", c.Chunk, "error", cause)
	return false, fault.Wrap(fault.Unavailable, cause, "the step is tried again").WithCode("step_failed").WithRetryAfter(max(f.RetryAfter, time.Second))
}

// lines are the errors of rows that an error of the file has.
func lines(f *fault.Error) []job.RowError {
	var rows []job.RowError
	for _, d := range f.Details {
		rows = append(rows, job.RowError{Index: -1, Line: int64(d.Line), Code: d.Code, Message: d.Message})
	}
	return rows
}

// keepAlive gives signs of life until ctx ends, and ends the step whose claim is
// lost.
func (t *turn) keepAlive(ctx context.Context, c job.Claim, d queue.Delivery, stop func()) {
	tick := time.NewTicker(t.cfg.Job.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_, err := t.update(ctx, func(b *job.Batch, now time.Time) error { return b.Extend(c, now, t.cfg.Job.Timing) })
		if err == nil {
			err = d.Extend(ctx)
		}
		if errors.Is(err, job.ErrStale) || errors.Is(err, repo.ErrNotFound) {
			stop()
			return
		}
	}
}
