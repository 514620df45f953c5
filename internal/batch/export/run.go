package export

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// task is an export that may have something to do.
type task struct {
	tenant string
	id     ID
}

// wake has a worker of this process look at an export soon. Where none has time,
// the next look at all exports finds it.
func (s *Service) wake(tenant string, id ID) {
	select {
	case s.woken <- task{tenant, id}:
	default:
	}
}

// Run runs exports until ctx ends, so many at a time; those under way are given
// back then. It looks after the exports of all tenants as well.
func (s *Service) Run(ctx context.Context, workers int, tenants func(context.Context) iter.Seq2[string, error]) error {
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				select {
				case t := <-s.woken:
					s.attempt(ctx, t)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for ctx.Err() == nil {
		for tenant, err := range tenants(ctx) {
			if err == nil {
				err = s.Look(ctx, tenant)
			}
			if err != nil && ctx.Err() == nil {
				s.cfg.Log.WarnContext(ctx, "exports could not be looked after", "error", err)
			}
		}
		pause.For(ctx, lookInterval)
	}
	running.Wait()
	return nil
}

// lookInterval is how often all exports are looked at, for those that no process
// told this one of, or that a worker died of.
const lookInterval = 5 * time.Second

// Look looks after a tenant's exports that are due: it wakes workers for those to
// run, and expires those whose time is over.
func (s *Service) Look(ctx context.Context, tenant string) error {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	for e, err := range Exports.All(ctx, s.store.Read(scope), spec.Query[Export]{Where: due.Le(s.store.Now()), Order: due.Asc()}) {
		if err != nil {
			return err
		}
		if e.Status != Completed {
			s.wake(tenant, e.ID)
			continue
		}
		var parts []Part
		_, err := s.update(ctx, scope, e.ID, func(e *Export, now time.Time) error {
			if parts = e.Parts; !e.Expire(now) {
				parts = nil
			}
			return nil
		})
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		s.drop(ctx, parts)
	}
	return nil
}

func (s *Service) update(ctx context.Context, scope repo.Scope, id ID, change func(e *Export, now time.Time) error) (e Export, err error) {
	err = s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		e, err = Exports.Update(ctx, tx, id, func(e *Export) error { return change(e, tx.Now()) })
		return err
	})
	return e, err
}

// attempt runs an export, if there is something to run.
func (s *Service) attempt(ctx context.Context, t task) {
	scope := repo.Scope{Tenant: t.tenant, Actor: "system"}
	var left []Part // of an attempt that died
	e, err := s.update(ctx, scope, t.id, func(e *Export, now time.Time) error {
		left = e.Parts
		return e.Take(now)
	})
	if err != nil {
		if !errors.Is(err, errLost) && !errors.Is(err, repo.ErrNotFound) && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "an export could not be begun", "export", string(t.id), "error", err)
		}
		return
	}
	s.drop(ctx, left)
	s.metrics.running.Inc()
	defer s.metrics.running.Dec()
	r := &run{service: s, scope: scope, id: t.id, attempt: e.Attempt, request: e.Request}
	err = r.do(ctx)
	if err == nil {
		s.metrics.rows.Add(float64(r.progress.Rows))
		s.metrics.bytes.Add(float64(r.progress.Bytes))
		s.metrics.ended(string(Completed))
		return
	}
	s.abandon(context.WithoutCancel(ctx), r, err, ctx.Err() != nil)
}

// abandon gives back what an attempt had, and drops what it has written.
func (s *Service) abandon(ctx context.Context, r *run, why error, stopped bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !errors.Is(why, errLost) {
		e, err := s.update(ctx, r.scope, r.id, func(e *Export, now time.Time) error { return e.Stop(r.attempt, why, stopped, now, s.cfg.Keep) })
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

// metrics are what an operator sees of exports.
type metrics struct {
	outcomes    *prometheus.CounterVec
	rows, bytes prometheus.Counter
	running     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_exports_total", Help: "Exports by how they ended here: completed, failed."}, []string{"outcome"}),
		rows:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_export_rows_total", Help: "Rows of completed exports."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_export_bytes_total", Help: "Bytes of completed exports."}),
		running:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_exports_running", Help: "Exports that this process runs now."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.outcomes, m.rows, m.bytes, m.running} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the metrics of exports cannot be registered")
		}
	}
	return m, nil
}

func (m *metrics) ended(outcome string) { m.outcomes.WithLabelValues(outcome).Inc() }
