package export

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Where it is said that there may be something to do.
const (
	streamExports = "exports" // in the outbox
	// StreamName is the stream in the queue.
	StreamName = "EXPORTS"
)

// Stream is the stream of those messages. It keeps what nobody has handled.
func Stream(replicas int, duplicates time.Duration) queue.Stream {
	const room = 16 << 20 // an export has a hint or two at a time
	return queue.Stream{Name: StreamName, Subjects: []string{streamExports + ".>"}, Retention: queue.Work, Discard: queue.Refuse, MaxBytes: room, Replicas: replicas, Duplicates: duplicates}
}

// announce says in the queue that an export waits for a worker.
func announce(tx *repo.Tx, id ID) error {
	return tx.Publish(repo.Message{Stream: streamExports, Type: "export.due", Key: repo.Key{Kind: Exports.Name, ID: string(id)}, Data: json.RawMessage("{}")})
}

// Remind looks after a tenant's exports that are due: it says again in the queue
// which of them wait, and expires those whose time is over.
func (s *Service) Remind(ctx context.Context, tenant string) error {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	for e, err := range Exports.All(ctx, s.store.Read(scope), spec.Query[Export]{Where: due.Le(s.store.Now()), Order: due.Asc()}) {
		if err != nil {
			return err
		}
		if err := s.remind(ctx, scope, e.ID); err != nil && !fault.Is(err, fault.NotFound) && !errors.Is(err, repo.ErrConflict) {
			return err
		}
	}
	return nil
}

func (s *Service) remind(ctx context.Context, scope repo.Scope, id ID) error {
	var parts []Part // of one that has expired, or whose worker died
	err := s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		waits := false
		parts = nil // it may not be so any more: after a conflict this runs again
		_, err := Exports.Update(ctx, tx, id, func(e *Export) error {
			left := e.Parts
			if waits = e.Remind(tx.Now()); waits || e.Expire(tx.Now()) {
				parts, e.Parts = left, nil
			}
			return nil
		})
		if err != nil || !waits {
			return err
		}
		return announce(tx, id)
	})
	if err == nil {
		s.drop(ctx, parts)
	}
	return err
}

// drain is how long an attempt has to give its export back when its worker stops.
const drain = 15 * time.Second

// maxDeliveries is so high that no message is given up that is one: attempts are
// counted in the store.
const maxDeliveries = 1 << 20

// Run takes exports from the queue and runs them, so many at a time, until ctx ends;
// those under way are given back then. Call it once.
func (s *Service) Run(ctx context.Context, q queue.Consuming, workers int) error {
	return q.Consume(ctx, queue.Consumer{Name: "exports", Stream: StreamName, Concurrency: workers, Lease: lease, Drain: drain, MaxAttempts: maxDeliveries,
		Backoff: queue.Backoff{Min: 100 * time.Millisecond, Max: lease}}, func(handling context.Context, d queue.Delivery) error {
		m, err := relay.Decode(&d.Message)
		if err != nil {
			return err
		}
		handling, cancel := context.WithCancel(handling)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return s.attempt(handling, repo.Scope{Tenant: m.Tenant, Actor: "system", Correlation: m.Correlation, Causation: m.ID, TraceParent: m.TraceParent}, ID(m.Key.ID), d.Extend)
	})
}

func (s *Service) update(ctx context.Context, scope repo.Scope, id ID, change func(e *Export, now time.Time) error) (e Export, err error) {
	err = s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		e, err = Exports.Update(ctx, tx, id, func(e *Export) error { return change(e, tx.Now()) })
		return err
	})
	return e, err
}

// attempt runs an export, if there is something to run; alive is told now and then
// that it goes on. It returns why it cannot be known whether there is.
func (s *Service) attempt(ctx context.Context, scope repo.Scope, id ID, alive func(context.Context) error) error {
	var left []Part // of an attempt that died
	e, err := s.update(ctx, scope, id, func(e *Export, now time.Time) error {
		left = e.Parts
		return e.Take(now, s.cfg.Keep)
	})
	if errors.Is(err, errLost) || errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.drop(ctx, left)
	if e.Status == Failed {
		s.metrics.ended(string(Failed))
		return nil
	}
	s.metrics.running.Inc()
	defer s.metrics.running.Dec()
	r := &run{service: s, scope: scope, id: id, attempt: e.Attempt, request: e.Request, alive: alive}
	work, stop := r.keepAlive(ctx)
	err = r.do(work)
	stopped, why := because(ctx, work, err)
	if stop(); err == nil {
		s.metrics.rows.Add(float64(r.progress.Rows))
		s.metrics.bytes.Add(float64(r.progress.Bytes))
		s.metrics.ended(string(Completed))
		return nil
	}
	s.abandon(context.WithoutCancel(ctx), r, why, stopped)
	return nil
}

// giveBack ends an attempt. What a worker that stops leaves, another may take at once.
func (s *Service) giveBack(ctx context.Context, r *run, why error, stopped bool) (e Export, err error) {
	err = s.store.Do(ctx, r.scope, func(ctx context.Context, tx *repo.Tx) error {
		e, err = Exports.Update(ctx, tx, r.id, func(e *Export) error { return e.Stop(r.attempt, why, stopped, tx.Now(), s.cfg.Keep) })
		if err != nil || !stopped {
			return err
		}
		return announce(tx, r.id)
	})
	return e, err
}

// abandon gives back what an attempt had, and drops what it has written.
func (s *Service) abandon(ctx context.Context, r *run, why error, stopped bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !errors.Is(why, errLost) {
		e, err := s.giveBack(ctx, r, why, stopped)
		switch {
		case err == nil && e.Status == Failed:
			s.metrics.ended(string(Failed))
		case err != nil && !errors.Is(err, errLost) && !errors.Is(err, repo.ErrNotFound):
			s.cfg.Log.WarnContext(ctx, "an export could not be given back: it is tried again after its lease", "export", string(r.id), "error", err)
		}
		if fault.Of(why).Kind == fault.Internal {
			s.cfg.Log.ErrorContext(ctx, "an export failed", "export", string(r.id), "error", why)
		}
	}
	// A commit that failed without an answer may have published the parts.
	if e, err := Exports.Get(ctx, s.store.Read(r.scope), r.id); err == nil && e.Attempt == r.attempt && e.Status == Completed || err != nil && !errors.Is(err, repo.ErrNotFound) {
		return
	}
	s.drop(ctx, r.parts)
}
