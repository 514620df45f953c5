package evaluation

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Where it is said that there may be something to do.
const (
	streamEvaluations = "evaluations" // in the outbox
	// StreamName is the stream in the queue.
	StreamName = "EVALUATIONS"
)

// Stream is the stream of those messages. It keeps what nobody has handled.
func Stream(replicas int, duplicates time.Duration) queue.Stream {
	const room = 16 << 20 // an evaluation has a hint or two at a time
	return queue.Stream{Name: StreamName, Subjects: []string{streamEvaluations + ".>"}, Retention: queue.Work, Discard: queue.Refuse, MaxBytes: room, Replicas: replicas, Duplicates: duplicates}
}

// announce says in the queue that an evaluation waits for a worker.
func announce(tx *repo.Tx, id ID) error {
	return tx.Publish(repo.Message{Stream: streamEvaluations, Type: "evaluation.due", Key: repo.Key{Kind: Evaluations.Name, ID: string(id)}, Data: json.RawMessage("{}")})
}

// Remind says again in the queue which of a tenant's evaluations wait, and have waited too
// long.
func (s *Service) Remind(ctx context.Context, tenant string) error {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	for e, err := range Evaluations.All(ctx, s.store.Read(scope), spec.Query[Evaluation]{Where: due.Le(s.store.Now()), Order: due.Asc()}) {
		if err != nil {
			return err
		}
		err := s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
			waits := false
			_, err := Evaluations.Update(ctx, tx, e.ID, func(e *Evaluation) error { waits = e.Remind(tx.Now()); return nil })
			if err != nil || !waits {
				return err
			}
			return announce(tx, e.ID)
		})
		if err != nil && !fault.Is(err, fault.NotFound) && !errors.Is(err, repo.ErrConflict) {
			return err
		}
	}
	return nil
}

const (
	drain         = 15 * time.Second // that an attempt has to give its evaluation back when its worker stops
	maxDeliveries = 1 << 20          // no message is given up that is one: attempts are counted in the store
)

// Run takes evaluations from the queue and runs them, so many at a time, until ctx ends;
// those under way are given back then. Call it once.
func (s *Service) Run(ctx context.Context, q queue.Consuming, workers int) error {
	return q.Consume(ctx, queue.Consumer{Name: "evaluations", Stream: StreamName, Concurrency: workers, Lease: lease, Drain: drain, MaxAttempts: maxDeliveries,
		Backoff: queue.Backoff{Min: 100 * time.Millisecond, Max: lease}}, func(handling context.Context, d queue.Delivery) error {
		m, err := relay.Decode(&d.Message)
		if err != nil {
			return err
		}
		handling, cancel := context.WithCancel(handling)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return s.attemptAt(handling, repo.Scope{Tenant: m.Tenant, Actor: "system", Correlation: m.Correlation, Causation: m.ID, TraceParent: m.TraceParent}, ID(m.Key.ID), d.Extend)
	})
}

// attemptAt runs an evaluation, if there is something to run; alive is told now and then that
// it goes on. It returns why it cannot be known whether there is.
func (s *Service) attemptAt(ctx context.Context, scope repo.Scope, id ID, alive func(context.Context) error) error {
	e, err := s.update(ctx, scope, id, func(e *Evaluation, now time.Time) error { return e.Take(now, s.cfg.Keep) })
	switch {
	case lost(err):
		return nil
	case err != nil:
		return err
	case e.Status == Failed:
		s.metrics.ended(&e)
		return nil
	}
	s.metrics.running.Inc()
	defer s.metrics.running.Dec()
	r := &run{service: s, scope: scope, id: id, attempt: e.Attempt, request: e.Request, started: e.StartedAt, done: e.Done}
	work, stop := pause.Beat(ctx, s.beat, func(ctx context.Context) error {
		_ = alive(ctx) // else the queue says it again, or ends the attempt
		if _, err := s.update(ctx, scope, id, func(e *Evaluation, now time.Time) error { return e.Extend(r.attempt, now) }); lost(err) {
			return errLost
		}
		return nil
	})
	err = r.do(work)
	cause := context.Cause(work)
	stop()
	switch {
	case err == nil:
		e.Status, e.Done = Completed, r.done
		s.metrics.ended(&e)
	case lost(cause) || lost(err): // somebody else has it, or nobody wants it
	default:
		s.giveBack(ctx, r, err)
	}
	return nil
}

func (s *Service) update(ctx context.Context, scope repo.Scope, id ID, change func(e *Evaluation, now time.Time) error) (e Evaluation, err error) {
	err = s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		e, err = Evaluations.Update(ctx, tx, id, func(e *Evaluation) error { return change(e, tx.Now()) })
		return err
	})
	return e, err
}

// giveBack ends an attempt that came to nothing. What a worker that stops leaves, another may
// take at once.
func (s *Service) giveBack(ctx context.Context, r *run, why error) {
	stopped := ctx.Err() != nil
	if errors.Is(context.Cause(ctx), queue.ErrLeaseLost) {
		stopped, why = false, fault.Wrap(fault.Unavailable, why, "the queue has heard nothing of the worker for longer than a lease").WithCode("lease_lost")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var e Evaluation
	err := s.store.Do(ctx, r.scope, func(ctx context.Context, tx *repo.Tx) (err error) {
		e, err = Evaluations.Update(ctx, tx, r.id, func(e *Evaluation) error { return e.Stop(r.attempt, why, stopped, tx.Now(), s.cfg.Keep) })
		if err != nil || !stopped {
			return err
		}
		return announce(tx, r.id)
	})
	switch {
	case err == nil && e.Status == Failed:
		s.metrics.ended(&e)
	case err != nil && !lost(err):
		s.cfg.Log.WarnContext(ctx, "an evaluation could not be given back: it is tried again after its lease", "evaluation", string(r.id), "error", err)
	}
	if fault.Of(why).Kind == fault.Internal {
		s.cfg.Log.ErrorContext(ctx, "an evaluation failed", "evaluation", string(r.id), "error", why)
	}
}
