package job

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
)

// Answer is what a model gave.
type Answer struct {
	Output  Message
	Version string // that answered
	Digest  string // SHA-256 of the model's file
	BatchMS float64
	InferMS float64
	Rows    int // of the run that it was in
	Used    Used
}

// Predictor has models answer, on the same way as online requests but in the class of work
// that waits for spare rows.
type Predictor interface {
	// Version returns which version would answer now. An error says that this
	// process has none.
	Version(model, version string) (string, error)
	// Progress counts the runs of a version that have ended.
	Progress(model, version string) int64
	Predict(ctx context.Context, q Question) (Answer, error)
}

// Question is what an attempt asks a version of a model.
type Question struct {
	ID                     ID
	Attempt                int // from 1
	Tenant, Model, Version string
	ClientRef              string
	Input                  Message
	Accepted               time.Time // when the prediction was: each attempt gets the features of then
	Arm                    Arm       // that chose the version; zero for none
}

// Worker runs predictions that the queue says are due.
type Worker struct {
	store     *repo.Store
	predictor Predictor
	payloads  Payloads
	ward      *Ward
	cfg       Config
	name      string
	log       *slog.Logger
	adopting  sync.Mutex // see adopt
	underWay  underWay
}

// NewWorker returns a worker with a name of its own. It watches the store's commits,
// for predictions that are cancelled.
func NewWorker(store *repo.Store, predictor Predictor, payloads Payloads, ward *Ward, cfg Config, log *slog.Logger) *Worker {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{store: store, predictor: predictor, payloads: payloads, ward: ward, cfg: cfg.withDefaults(), name: "worker-" + repo.RandomName(), log: log, underWay: underWay{of: map[string]chan struct{}{}}}
	store.Watch(w.underWay.committed)
	return w
}

// Run takes work from the queue until ctx ends, and then finishes what it has.
func (w *Worker) Run(ctx context.Context, q queue.Consuming, concurrency int) error {
	return q.Consume(ctx, queue.Consumer{Name: "predictions", Stream: streamName, Concurrency: concurrency, Lease: w.cfg.Lease, Drain: w.cfg.Drain,
		MaxAttempts: maxDeliveries, Backoff: queue.Backoff{Min: 100 * time.Millisecond, Max: w.cfg.Lease}}, w.handle)
}

// maxDeliveries is so high that only malformed messages are given up: attempts are counted
// in the store.
const maxDeliveries = 1 << 20

// handle looks after one prediction.
func (w *Worker) handle(ctx context.Context, d queue.Delivery) error {
	m, err := relay.Decode(&d.Message)
	if err != nil {
		return err
	}
	var asked hint
	if err := json.Unmarshal(m.Data, &asked); err != nil {
		return fault.Wrap(fault.Invalid, err, "the message %s does not say which model it is about", m.ID).WithCode("message_malformed")
	}
	scope := repo.Scope{Tenant: m.Tenant, Actor: "system", Correlation: m.Correlation, Causation: m.ID, TraceParent: m.TraceParent}
	version, err := w.predictor.Version(asked.Model, asked.Version)
	if err != nil {
		return w.pass(ctx, scope, ID(m.Key.ID), d, err)
	}
	if w.ward.Admit(asked.Model, version) != nil {
		return w.postpone(ctx, scope, ID(m.Key.ID), quarantined)
	}
	free := func() {}
	p, begun, err := w.start(ctx, scope, ID(m.Key.ID), version, false)
	if errors.Is(err, errOrphan) {
		p, begun, free, err = w.adopt(ctx, scope, ID(m.Key.ID), version)
		defer free()
	}
	switch {
	case errors.Is(err, repo.ErrNotFound), err == nil && !begun:
		return nil // it has ended, or was forgotten
	case errors.Is(err, errBusy):
		// Should that worker die, the reconciler announces the prediction again, at most its
		// interval after the lease.
		return nil
	case err != nil:
		return err
	case w.ward.Admit(p.Model, p.Tried) != nil: // since just now: the attempt before was the last straw
		w.giveBack(ctx, scope, &p)
		return w.postpone(ctx, scope, p.ID, quarantined)
	}
	return w.attempt(ctx, scope, p, d, free)
}

// start begins an attempt; at an orphan only where orphan is set, see adopt.
func (w *Worker) start(ctx context.Context, scope repo.Scope, id ID, version string, orphan bool) (p Prediction, begun bool, err error) {
	p, err = w.take(ctx, scope, id, func(p *Prediction, now time.Time) (err error) {
		if p.orphaned(now, w.cfg.Timing) && !orphan {
			return errOrphan
		}
		begun, err = p.Start(w.name, version, now, w.cfg.Timing)
		return err
	})
	return p, begun && err == nil, err
}

// take changes a prediction. If that takes it from a dead worker, the death is counted
// before take returns.
func (w *Worker) take(ctx context.Context, scope repo.Scope, id ID, change func(p *Prediction, now time.Time) error) (p Prediction, err error) {
	var before Prediction
	var death Death
	died := false
	err = w.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) (err error) {
		p, err = update(ctx, tx, id, func(p *Prediction) error {
			before = *p
			death, died = p.lost(tx.Now(), w.cfg.Timing)
			return change(p, tx.Now())
		})
		return err
	})
	if err == nil && died {
		w.ward.died(ctx, before.Model, before.Tried, death)
	}
	return p, err
}

// attempt runs a prediction that this worker has started, and commits its outcome. It calls
// free once the run should have ended, even if the run hangs.
func (w *Worker) attempt(ctx context.Context, scope repo.Scope, p Prediction, d queue.Delivery, free func()) error {
	run, end := context.WithTimeoutCause(ctx, w.cfg.MaxRun, errTooLong)
	defer end()
	if !p.Deadline.IsZero() {
		run, end = context.WithDeadline(run, p.Deadline)
		defer end()
	}
	run, stop := context.WithCancelCause(run)
	defer context.AfterFunc(run, free)()
	changed, leave := w.underWay.join(p.ID)
	defer leave()
	var alive sync.WaitGroup
	alive.Go(func() { w.keepAlive(run, scope, &p, d, changed, stop) })
	answer, out, err := w.predict(run, &p)
	if err != nil {
		err = why(run, err)
	}
	stop(nil)
	alive.Wait()
	switch {
	case err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), queue.ErrLeaseLost): // this worker stops; another takes over
		w.giveBack(context.WithoutCancel(ctx), scope, &p)
		return ctx.Err()
	case err != nil && w.lacks(&p):
		w.giveBack(context.WithoutCancel(ctx), scope, &p)
		return w.pass(ctx, scope, p.ID, d, err)
	}
	return w.finish(context.WithoutCancel(ctx), scope, &p, answer, out, err)
}

// lacks reports whether this process does not serve the model any more.
func (w *Worker) lacks(p *Prediction) bool {
	_, err := w.predictor.Version(p.Model, p.Tried)
	return err != nil
}

// giveBackTime bounds the commit of an attempt that was given back: a process
// that stops has little of it.
const giveBackTime = 5 * time.Second

// giveBack lets the next worker begin at once. Where that fails, it begins when the lease
// ends.
func (w *Worker) giveBack(ctx context.Context, scope repo.Scope, p *Prediction) {
	ctx, cancel := context.WithTimeout(ctx, giveBackTime)
	defer cancel()
	err := w.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		_, err := update(ctx, tx, p.ID, func(now *Prediction) error { return now.GiveBack(p.Attempt, tx.Now(), w.cfg.Timing) })
		return err
	})
	if err != nil && !errors.Is(err, errStale) && !errors.Is(err, repo.ErrNotFound) {
		w.log.WarnContext(ctx, "an attempt could not be given back; it is taken over when its lease ends", "prediction", string(p.ID), "error", err)
	}
}

func (w *Worker) predict(ctx context.Context, p *Prediction) (Answer, Payload, error) {
	input, err := w.payloads.Load(ctx, p.Input)
	if err != nil {
		return Answer{}, Payload{}, err
	}
	q := Question{ID: p.ID, Attempt: p.Attempt, Tenant: p.Tenant, Model: p.Model, Version: p.Tried, ClientRef: p.ClientRef, Accepted: p.CreatedAt, Input: Message{input, p.Input.Text}}
	if p.Arm.Version == p.Tried {
		q.Arm = p.Arm
	}
	answer, err := w.predictor.Predict(ctx, q)
	if err != nil {
		return Answer{}, Payload{}, err
	}
	out, err := w.payloads.Save(ctx, Owner{p.Tenant, p.ID}, answer.Output)
	return answer, out, err
}

// finishTime bounds the commit of an outcome.
const finishTime = 30 * time.Second

// finish commits an attempt's outcome, behind its fence.
func (w *Worker) finish(ctx context.Context, scope repo.Scope, p *Prediction, a Answer, out Payload, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, finishTime)
	defer cancel()
	retry, named := time.Duration(0), false
	err := w.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		retry = 0
		ended, err := update(ctx, tx, p.ID, func(now *Prediction) error {
			if cause == nil {
				m := Metrics{QueueMS: ms(p.UpdatedAt.Sub(p.Since)), BatchMS: a.BatchMS, InferMS: a.InferMS, BatchSize: a.Rows, Used: a.Used}
				return now.Succeed(p.Attempt, out, a.Version, a.Digest, m, tx.Now(), w.cfg.Timing)
			}
			f := failure(cause)
			pause := max(fault.Of(cause).RetryAfter, time.Duration(p.Attempt)*time.Second)
			err := now.Fail(p.Attempt, f, pause, tx.Now(), w.cfg.Timing)
			if now.Status == Queued {
				retry = pause
			}
			return err
		})
		named = err == nil && ended.Output.Object == out.Object
		return err
	})
	if stale := errors.Is(err, errStale) || errors.Is(err, repo.ErrNotFound); stale || err == nil && !named {
		w.payloads.Drop(ctx, out)
	}
	switch {
	case errors.Is(err, errStale), errors.Is(err, repo.ErrNotFound):
		w.log.WarnContext(ctx, "an attempt ended after another had begun; its outcome does not count", "prediction", string(p.ID), "attempt", p.Attempt)
		return nil
	case err != nil:
		return err
	case cause == nil:
		w.ward.survived(ctx, p.Model, p.Tried)
	case retry > 0:
		return fault.Wrap(fault.Unavailable, cause, "the prediction is tried again").WithCode("attempt_failed").WithRetryAfter(retry)
	}
	return nil
}

// failure says to the client why a prediction failed.
func failure(err error) Failure {
	e := fault.Of(err)
	passing := e.Kind.Retryable()
	switch e.Kind {
	case fault.Internal, fault.NotFound, fault.Canceled:
		// What this worker lacks, another may have: the model was there when the
		// prediction was accepted. And who cancels a prediction does it in the store.
		passing = true
	}
	return Failure{fault.CodeOf(e), e.Text(), passing}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
