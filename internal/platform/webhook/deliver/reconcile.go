package deliver

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/webhook"
)

// leaseTime is for how long one process has the reconciler to itself.
const leaseTime = 30 * time.Second

// batch is how many due deliveries are looked at at a time; a tenant that has more
// waits for the next round with the rest.
const batch = 500

// reconcile announces what is due, whenever no other process does, until ctx ends.
func (s *Service) reconcile(ctx context.Context) error {
	for ctx.Err() == nil {
		lease, err := s.store.Acquire(ctx, "webhook-reconciler", s.cfg.Owner, leaseTime)
		if err == nil {
			err = lease.Hold(ctx, leaseTime, s.rounds)
		}
		if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "webhooks that are due cannot be looked for", "error", err)
		}
		s.metrics.pending.Set(0) // the process that counts them says how many there are
		pause.For(ctx, s.cfg.Reconcile)
	}
	return nil
}

// rounds looks after all tenants again and again.
func (s *Service) rounds(ctx context.Context) error {
	if err := s.reseal(ctx); err != nil {
		return err
	}
	for n := 0; ctx.Err() == nil; n++ {
		if err := s.round(ctx, n%countEvery == 0); err != nil {
			return err
		}
		pause.For(ctx, s.cfg.Reconcile)
	}
	return nil
}

// reseal brings all secrets under the key that is in force. Keys are read at the
// start, so once is enough; what cannot be opened is told, and keeps nobody from
// their webhooks.
func (s *Service) reseal(ctx context.Context) error {
	for tenant, err := range s.tenants(ctx) {
		if err != nil {
			return err
		}
		n, err := webhook.Reseal(ctx, s.store, repo.Scope{Tenant: tenant, Actor: "system"}, s.keys)
		s.metrics.resealed.Add(float64(n))
		if n > 0 {
			s.cfg.Log.InfoContext(ctx, "secrets of webhook endpoints were sealed with another key", "tenant", tenant, "endpoints", n)
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "secrets of webhook endpoints cannot be sealed with the key in force", "tenant", tenant, "error", err)
		}
	}
	return ctx.Err()
}

// countEvery is how many rounds pass between counts of what is pending, which cost
// more than finding what is due.
const countEvery = 12

func (s *Service) round(ctx context.Context, count bool) error {
	pending := int64(0)
	for tenant, err := range s.tenants(ctx) {
		if err != nil {
			return err
		}
		scope := repo.Scope{Tenant: tenant, Actor: "system"}
		if err := s.remind(ctx, scope); err != nil {
			return err
		}
		if !count {
			continue
		}
		n, err := webhook.Deliveries.Count(ctx, s.store.Read(scope), webhook.Open())
		if errors.Is(err, spec.ErrUnsupported) {
			n, err = webhook.Deliveries.CountTo(ctx, s.store.Read(scope), webhook.Open(), batch)
		}
		if err != nil {
			return err
		}
		pending += n
	}
	if count {
		s.metrics.pending.Set(float64(pending))
	}
	return nil
}

// remind announces what is due of a tenant.
func (s *Service) remind(ctx context.Context, scope repo.Scope) error {
	page, err := webhook.Deliveries.Find(ctx, s.store.Read(scope), webhook.Overdue(s.store.Now(), batch))
	if err != nil {
		return err
	}
	for _, d := range page.Items {
		err := s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
			overdue := false
			now, err := webhook.Deliveries.Update(ctx, tx, d.ID, func(d *webhook.Delivery) error { overdue = d.Remind(tx.Now()); return nil })
			if err != nil || !overdue {
				return err
			}
			return webhook.Announce(tx, &now)
		})
		if err != nil && !fault.Is(err, fault.NotFound) && !errors.Is(err, repo.ErrConflict) {
			return err
		}
	}
	return nil
}
