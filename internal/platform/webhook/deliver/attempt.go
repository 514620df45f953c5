package deliver

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/send"
)

// finishTime bounds the commits after an attempt.
const finishTime = 10 * time.Second

// attend does what there is to do for a delivery, and returns after how long
// there is more; 0 where there is not, or a reconciler will say so.
func (s *Service) attend(ctx context.Context, i item) (again time.Duration) {
	again, err := s.tend(ctx, i)
	switch {
	case err == nil, errors.Is(err, repo.ErrNotFound), errors.Is(err, webhook.ErrBusy), errors.Is(err, webhook.ErrStale):
		return again // forgotten, or another process is at it
	case ctx.Err() == nil:
		s.cfg.Log.WarnContext(ctx, "a webhook could not be looked after; it will be, as long as it is due", "delivery", string(i.id), "endpoint", string(i.endpoint), "error", err)
	}
	return 0
}

func (s *Service) tend(ctx context.Context, i item) (again time.Duration, err error) {
	scope := repo.Scope{Tenant: i.tenant, Actor: "system"}
	from := s.store.Read(scope)
	e, err := webhook.Endpoints.Get(ctx, from, i.endpoint)
	if errors.Is(err, repo.ErrNotFound) || err == nil && e.Disabled {
		d, err := s.update(ctx, scope, i.id, func(d *webhook.Delivery, now time.Time) error { d.Cancel(now); return nil })
		return 0, errors.Join(err, s.follow(ctx, scope, &d))
	}
	if err != nil {
		return 0, err
	}
	h, err := webhook.HealthOf(ctx, from, i.endpoint)
	if err != nil {
		return 0, err
	}
	if now := s.store.Now(); now.Before(h.PausedUntil) {
		// Not all at the same moment.
		until := h.PausedUntil.Add(time.Duration(s.cfg.Random() * float64(h.PausedUntil.Sub(now)) / 5))
		d, err := s.update(ctx, scope, i.id, func(d *webhook.Delivery, now time.Time) error { d.Postpone(now, until); return nil })
		return s.wait(&d), err
	}
	d, err := webhook.Deliveries.Get(ctx, from, i.id)
	if err != nil {
		return 0, err
	}
	if waits, err := s.waits(ctx, scope, &e, &d); waits || err != nil {
		return 0, err // it is offered again when its turn has come
	}
	return s.attempt(ctx, scope, &e, &h, i.id)
}

// waits reports whether it is not the delivery's turn yet.
func (s *Service) waits(ctx context.Context, scope repo.Scope, e *webhook.Endpoint, d *webhook.Delivery) (bool, error) {
	if e.Unordered {
		return false, nil
	}
	first, waits, err := webhook.Ahead(ctx, s.store.Read(scope), d)
	if waits && err == nil {
		_, err = s.update(ctx, scope, d.ID, func(d *webhook.Delivery, now time.Time) error { d.Hold(&first, now); return nil })
	}
	return waits, err
}

// follow offers what was waiting for a delivery that is final now.
func (s *Service) follow(ctx context.Context, scope repo.Scope, d *webhook.Delivery) error {
	if !d.Status.Final() {
		return nil
	}
	next, ok, err := webhook.Following(ctx, s.store.Read(scope), d)
	if ok {
		s.offer(item{scope.Tenant, d.Endpoint, next})
	}
	return err
}

// update changes a delivery in a unit of work of its own.
func (s *Service) update(ctx context.Context, scope repo.Scope, id webhook.DeliveryID, change func(*webhook.Delivery, time.Time) error) (d webhook.Delivery, err error) {
	err = s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) (err error) {
		d, err = webhook.Deliveries.Update(ctx, tx, id, func(d *webhook.Delivery) error { return change(d, tx.Now()) })
		return err
	})
	return d, err
}

// wait is how long this process waits for a delivery itself.
func (s *Service) wait(d *webhook.Delivery) time.Duration {
	if wait := d.Next.Sub(s.store.Now()); d.Status == webhook.Pending && webhook.Short(wait) {
		return max(wait, time.Millisecond)
	}
	return 0
}

// attempt makes one attempt, unless its time has not come.
func (s *Service) attempt(ctx context.Context, scope repo.Scope, e *webhook.Endpoint, h *webhook.Health, id webhook.DeliveryID) (again time.Duration, err error) {
	begun := false
	d, err := s.update(ctx, scope, id, func(d *webhook.Delivery, now time.Time) (err error) {
		begun, err = d.Start(now)
		return err
	})
	if err != nil || !begun {
		return s.wait(&d), errors.Join(err, s.follow(ctx, scope, &d))
	}
	r := s.post(ctx, e, &d)
	s.metrics.observe(r)
	// What came of it is noted also where the process is about to end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	fence := d.Attempt
	d, err = s.update(ctx, scope, id, func(d *webhook.Delivery, now time.Time) error { return d.Finish(fence, r, now, s.cfg.Random()) })
	return s.wait(&d), errors.Join(err, s.observe(ctx, scope, e, h, r), s.follow(ctx, scope, &d))
}

// post signs and sends.
func (s *Service) post(ctx context.Context, e *webhook.Endpoint, d *webhook.Delivery) webhook.Result {
	now := s.store.Now()
	signature, err := e.Sign(s.keys, d.Event, now, d.Body)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "a webhook cannot be signed", "endpoint", string(e.ID), "error", err)
		return webhook.Result{Class: webhook.Unsendable}
	}
	return s.sender.Send(ctx, send.Message{URL: e.URL, ID: d.Event, Time: now, Signature: signature, Body: d.Body})
}

// observe notes what an attempt says about the endpoint, and disables one that is
// gone or has failed for too long.
func (s *Service) observe(ctx context.Context, scope repo.Scope, e *webhook.Endpoint, h *webhook.Health, r webhook.Result) error {
	if r.Class == webhook.Interrupted {
		return nil // that was us
	}
	now := s.store.Now()
	if h.Observe(r, now) {
		if err := s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error { return webhook.SaveHealth(ctx, tx, e.ID, r) }); err != nil {
			return err
		}
	}
	var why webhook.Reason
	switch {
	case r.Class == webhook.GoneForGood:
		why = webhook.Gone
	case h.HopelessSince(e, now, s.cfg.DisableAfter):
		why = webhook.Failing
	default:
		return nil
	}
	return s.disable(ctx, scope, e, why)
}

// disable calls an endpoint no more, unless its owner has changed it meanwhile.
func (s *Service) disable(ctx context.Context, scope repo.Scope, e *webhook.Endpoint, why webhook.Reason) error {
	done := false
	err := s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		_, err := webhook.Endpoints.Update(ctx, tx, e.ID, func(now *webhook.Endpoint) error {
			done = now.Version == e.Version && !now.Disabled
			if done {
				now.Disable(why)
			}
			return nil
		})
		return err
	})
	if err == nil && done {
		s.metrics.disabled.WithLabelValues(string(why)).Inc()
		s.cfg.Log.WarnContext(ctx, "a webhook endpoint was disabled", "tenant", scope.Tenant, "endpoint", string(e.ID), "reason", string(why))
	}
	return err
}
