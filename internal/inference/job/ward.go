package job

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Ward knows which versions of models are in quarantine or suspected: what this process
// changes at once, and what others change within wardInterval.
type Ward struct {
	store *repo.Store
	cfg   Config
	log   *slog.Logger

	deaths *prometheus.CounterVec
	active *prometheus.GaugeVec

	mu    sync.Mutex
	known map[version]Quarantine // of versions that ever had deaths
}

// version names a version of a model.
type version struct{ model, version string }

// wardInterval is how often the store is asked about quarantines.
const wardInterval = 2 * time.Second

// NewWard returns the ward of a store, and registers its metrics, unless they are
// nil. Call it before the store is used.
func NewWard(store *repo.Store, cfg Config, metrics prometheus.Registerer, log *slog.Logger) (*Ward, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	labels := []string{"model", "version"}
	w := &Ward{store: store, cfg: cfg.withDefaults(), log: log, known: map[version]Quarantine{},
		deaths: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_prediction_worker_deaths_total", Help: "Attempts that this process took over from a worker which gave no sign of life any more, by the version that it ran."}, labels),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_model_quarantined", Help: "1 for a version of a model that is in quarantine."}, labels),
	}
	store.Watch(w.committed)
	if metrics == nil {
		return w, nil
	}
	for _, c := range []prometheus.Collector{w.deaths, w.active} {
		if err := metrics.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return w, nil
}

// Run asks the store again and again until ctx ends. While it does not answer,
// what was known before holds.
func (w *Ward) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.Refresh(ctx); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "quarantines cannot be read; what was known before holds", "error", err)
		}
		pause.For(ctx, wardInterval)
	}
}

// Refresh asks the store once.
func (w *Ward) Refresh(ctx context.Context) error {
	var all []Quarantine
	for q, err := range Quarantines.All(ctx, w.store.Read(repo.Scope{}), spec.Query[Quarantine]{}) {
		if err != nil {
			return err
		}
		all = append(all, q)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range all {
		w.note(&all[i])
	}
	return nil
}

// note remembers a quarantine, unless a later state of it is known: a reading may be older
// than a commit, and commits are not told in order.
func (w *Ward) note(q *Quarantine) {
	of := version{q.Model, q.Version}
	if w.known[of].Root.Version > q.Root.Version {
		return
	}
	w.known[of] = *q
	w.active.DeleteLabelValues(q.Model, q.Version)
	if q.Active {
		w.active.WithLabelValues(q.Model, q.Version).Set(1)
	}
}

// committed notes what this process has changed.
func (w *Ward) committed(c *repo.Changeset) {
	for i := range c.Puts {
		var q Quarantine
		if c.Puts[i].Kind != Quarantines.Name || json.Unmarshal(c.Puts[i].Doc, &q) != nil {
			continue
		}
		q.Root.Version = c.Puts[i].Record.Version
		w.mu.Lock()
		w.note(&q)
		w.mu.Unlock()
	}
}

// Admit refuses predictions of a version that is in quarantine, as
// fault.Unavailable with the code "model_quarantined".
func (w *Ward) Admit(model, number string) error {
	if w.is(model, number).Active {
		return errQuarantined
	}
	return nil
}

func (w *Ward) is(model, number string) Quarantine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[version{model, number}]
}

// died counts the death of a worker against the version that it ran.
func (w *Ward) died(ctx context.Context, model, number string, d Death) {
	w.deaths.WithLabelValues(model, number).Inc()
	log := w.log.With("model", model, "version", number, "prediction", string(d.Prediction), "worker", d.Worker)
	log.ErrorContext(ctx, "a worker gave no sign of life any more while it ran a prediction; another takes it over")
	if w.cfg.Deaths < 0 {
		return
	}
	active, err := w.count(ctx, model, number, d)
	if errors.Is(err, repo.ErrExists) { // another has counted the first death at the same time
		active, err = w.count(ctx, model, number, d)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		log.WarnContext(ctx, "a worker's death could not be counted", "error", err)
	case active:
		log.ErrorContext(ctx, "the version of the model is in quarantine: no prediction of it is run until an operator releases it")
	}
}

// count counts a death, and returns whether the version is in quarantine now.
func (w *Ward) count(ctx context.Context, model, number string, d Death) (active bool, err error) {
	change := func(tx *repo.Tx, q *Quarantine) { q.Count(d, w.cfg.Deaths, w.cfg.Lease, tx.Now()) }
	err = w.store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		q, err := Quarantines.Update(ctx, tx, quarantineID(model, number), func(q *Quarantine) error { change(tx, q); return nil })
		active = q.Active
		if !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		q = Quarantine{Model: model, Version: number}
		q.ID = quarantineID(model, number)
		change(tx, &q)
		active = q.Active
		return Quarantines.Add(ctx, tx, &q)
	})
	return active, err
}

// survived notes that a prediction of a version has succeeded, where that matters.
func (w *Ward) survived(ctx context.Context, model, number string) {
	if q := w.is(model, number); len(q.Deaths) == 0 || q.Active {
		return
	}
	err := w.store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Quarantines.Update(ctx, tx, quarantineID(model, number), func(q *Quarantine) error { q.Survive(); return nil })
		return err
	})
	if err != nil && !errors.Is(err, repo.ErrNotFound) && ctx.Err() == nil {
		w.log.WarnContext(ctx, "a success could not be counted for a suspected version of a model", "model", model, "version", number, "error", err)
	}
}
