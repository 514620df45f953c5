package rollout

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/release"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// TurnConfig configures what one process at a time does, again and again; the zero value
// has defaults.
type TurnConfig struct {
	Owner    string                // this process; default a random name
	Interval time.Duration         // between two looks, at least; default 1s
	Lease    time.Duration         // how long a process that died keeps others from it; default 5s
	Log      *slog.Logger          // nil discards
	Metrics  prometheus.Registerer // nil registers nowhere
}

func (c TurnConfig) withDefaults() TurnConfig {
	if c.Owner == "" {
		c.Owner = "rollout-" + repo.RandomName()
	}
	if c.Interval <= 0 {
		c.Interval = time.Second
	}
	if c.Lease <= 0 {
		c.Lease = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// DriverConfig holds what a Driver may be given.
type DriverConfig struct {
	TurnConfig
	Allocator *Allocator // of experiments; nil for none
}

// Driver judges releases by their evidence and carries out what follows, in one process
// at a time. It also frees aliases whose experiment or release is over, and ends
// experiments and releases that hold their alias no more, and so divide nothing.
type Driver struct {
	store    *repo.Store
	bus      *cqrs.Bus
	evidence Evidence
	cfg      DriverConfig
	outcomes *prometheus.CounterVec
}

// NewDriver returns a driver of the store's releases, whose changes are commands of the bus,
// and so audited: Register must have been called for it.
func NewDriver(store *repo.Store, b *cqrs.Bus, e Evidence, cfg DriverConfig) (*Driver, error) {
	cfg.TurnConfig = cfg.withDefaults()
	d := &Driver{store: store, bus: b, evidence: e, cfg: cfg, outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_release_decisions_total", Help: "Judgements of releases that were logged, by what followed."}, []string{"outcome"})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(d.outcomes); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return d, nil
}

// Run drives until ctx ends, while this process has the lease.
func (d *Driver) Run(ctx context.Context) {
	for ctx.Err() == nil {
		lease, err := d.store.Acquire(ctx, "releases-drive", d.cfg.Owner, d.cfg.Lease)
		if err == nil {
			err = lease.Hold(ctx, d.cfg.Lease, func(ctx context.Context) error {
				for ctx.Err() == nil {
					d.Round(ctx)
					pause.For(ctx, d.cfg.Interval)
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "releases cannot be driven by this process", "error", err)
		}
		pause.For(ctx, d.cfg.Interval)
	}
}

// Round looks once at everything that holds an alias, or should.
func (d *Driver) Round(ctx context.Context) {
	for a, err := range all(ctx, d.store.Read(repo.Scope{}), Aliases, ofHeld.Eq(true)) {
		if err == nil && a.State.Holder != "" {
			err = d.look(ctx, &a)
		}
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "a release cannot be driven; that is tried again", "model", a.State.Model, "alias", a.State.Name, "holder", a.State.Holder, "error", err)
		}
	}
	for r, err := range all(ctx, d.store.Read(repo.Scope{}), release.Releases, release.Live()) {
		err = d.unheld(ctx, err, r.State.Plan.Model, r.State.Plan.Alias, string(r.Root.ID), func() error {
			_, err := cqrs.Send(asSystem(ctx, r.State.Plan.Tenant), d.bus, ActOnRelease{ID: r.Root.ID, Action: RollBack, Reason: holdLost, Expect: Expectation{Any: true}})
			if fault.CodeOf(err) == "release_over" {
				return nil
			}
			return err
		})
		d.warn(ctx, err, string(r.Root.ID))
	}
	for x, err := range all(ctx, d.store.Read(repo.Scope{}), Experiments, experimentStopped.Eq(false)) {
		err = d.unheld(ctx, err, x.State.Model, x.State.Alias, string(x.Root.ID), func() error {
			_, err := cqrs.Send(asSystem(ctx, x.State.Tenant), d.bus, StopExperiment{ID: x.Root.ID, Reason: holdLost})
			return err
		})
		d.warn(ctx, err, string(x.Root.ID))
		if err == nil && d.cfg.Allocator != nil {
			if err := d.cfg.Allocator.Allot(ctx, &x); err != nil && ctx.Err() == nil {
				d.cfg.Log.WarnContext(ctx, "the arms of an experiment cannot be allocated; that is tried again", "experiment", string(x.Root.ID), "error", err)
			}
		}
	}
}

const holdLost = "it does not hold its alias any more"

// unheld ends an experiment or release that does not hold its alias. It was read before the
// alias is: since a hold begins before its holder and ends after it, a holder without one
// has lost it.
func (d *Driver) unheld(ctx context.Context, err error, model, alias, id string, end func() error) error {
	if err != nil {
		return err
	}
	a, err := Aliases.Get(ctx, d.store.Read(repo.Scope{}), AliasIDOf(model, alias))
	if err != nil && !errors.Is(err, repo.ErrNotFound) || a.State.Holder == id {
		return err
	}
	return end()
}

func (d *Driver) warn(ctx context.Context, err error, id string) {
	if err != nil && ctx.Err() == nil {
		d.cfg.Log.WarnContext(ctx, "what has lost its hold cannot be ended; that is tried again", "id", id, "error", err)
	}
}

// patience is how long an alias may have a holder that does not exist: whoever took the
// hold is about to make the holder, or died before that.
const patience = time.Minute

// look drives what holds an alias, and ends the hold once that is over.
func (d *Driver) look(ctx context.Context, a *LoadedAlias) error {
	over, promoted, tenant, err := d.state(ctx, a)
	if err != nil || !over {
		return err
	}
	ctx = asSystem(ctx, tenant)
	if promoted {
		_, err = cqrs.Send(ctx, d.bus, promoteAlias{model: a.State.Model, alias: a.State.Name, holder: a.State.Holder})
	} else {
		_, err = cqrs.Send(ctx, d.bus, freeAlias{model: a.State.Model, alias: a.State.Name, holder: a.State.Holder})
	}
	return err
}

// state drives what holds an alias, and returns whether that is over then, and whose it is.
func (d *Driver) state(ctx context.Context, a *LoadedAlias) (over, promoted bool, tenant string, err error) {
	id, from := a.State.Holder, d.store.Read(repo.Scope{})
	if isExperiment(id) {
		x, err := Experiments.Get(ctx, from, ExperimentID(id))
		if errors.Is(err, repo.ErrNotFound) {
			return d.lost(a), false, "", nil
		}
		return x.State.Stopped, false, x.State.Tenant, err
	}
	r, err := release.Releases.Get(ctx, from, release.ID(id))
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return d.lost(a), false, "", nil
	case err == nil && !r.State.Status.Final():
		err = d.assess(ctx, &r)
	}
	return r.State.Status.Final(), r.State.Status == release.Promoted, r.State.Plan.Tenant, err
}

func (d *Driver) lost(a *LoadedAlias) bool { return d.store.Now().Sub(a.State.HeldAt) > patience }

// assess judges a release by what was measured, and brings r up to date. There is a command,
// and an entry in the audit log, only where anything follows.
func (d *Driver) assess(ctx context.Context, r *LoadedRelease) error {
	measured, err := d.evidence.Measure(ctx, r)
	if err != nil {
		return err
	}
	events, err := r.State.Assess(measured, d.store.Now())
	outcome := outcomeOf(events)
	if err != nil || outcome == "" {
		return err
	}
	before := r.State
	after, err := cqrs.Send(asSystem(ctx, before.Plan.Tenant), d.bus, judge{release: r, measured: measured, outcome: outcome})
	if errors.Is(err, errOvertaken) {
		return nil // the next look sees what it is now
	}
	if err != nil {
		return err
	}
	*r = *after
	d.outcomes.WithLabelValues(string(outcome)).Inc()
	log := d.cfg.Log.With("release", string(r.Root.ID), "model", r.State.Plan.Model, "alias", r.State.Plan.Alias, "step", before.Step, "outcome", string(outcome), "status", string(r.State.Status))
	if r.State.Verdict == evidence.Fail {
		log.WarnContext(ctx, "a release was judged", "reason", r.State.Reason)
		return nil
	}
	log.InfoContext(ctx, "a release was judged")
	return nil
}
