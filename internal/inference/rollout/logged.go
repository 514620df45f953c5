package rollout

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/inference/release"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// PredictionLog is the part of record.Store that evidence is read from.
type PredictionLog interface {
	Scores(ctx context.Context, w record.Window) (record.Scores, error)
	Shapes(ctx context.Context, f record.Filter) (record.Shapes, error)
	Identity(ctx context.Context) (string, error)
}

// logged reports whether a policy asks for what only the prediction log knows.
func logged(p evidence.Policy) bool { return p.Quality != nil || p.Drift != nil }

// Reader reads from a prediction log what guardrails of releases and allocations of
// experiments ask for, and stores it, where it adds up with what other logs have. Of the
// processes that share a log one reads at a time.
type Reader struct {
	store    *repo.Store
	log      PredictionLog
	cfg      TurnConfig
	failures prometheus.Counter
	known    map[part][]Measure // what this process has stored
	before   map[part]Measure   // the references of releases, which do not change
}

// NewReader returns a reader of a log.
func NewReader(store *repo.Store, log PredictionLog, cfg TurnConfig) (*Reader, error) {
	r := &Reader{store: store, log: log, cfg: cfg.withDefaults(), known: map[part][]Measure{}, before: map[part]Measure{}, failures: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sluice_release_log_failures_total", Help: "Readings of the prediction log for guardrails of releases that failed; what was known before holds."})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(r.failures); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return r, nil
}

// Run reads until ctx ends, while this process has the lease.
func (r *Reader) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.hold(ctx); err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "the prediction log cannot be read for releases by this process", "error", err)
		}
		pause.For(ctx, r.cfg.Interval)
	}
}

func (r *Reader) hold(ctx context.Context) error {
	log, err := r.log.Identity(ctx)
	if err != nil {
		return err
	}
	lease, err := r.store.Acquire(ctx, repo.LeaseName("releases-log-"+log), r.cfg.Owner, r.cfg.Lease)
	if err != nil {
		return err
	}
	clear(r.known) // others have written meanwhile
	return lease.Hold(ctx, r.cfg.Lease, func(ctx context.Context) error {
		for ctx.Err() == nil {
			began := time.Now()
			r.Round(ctx, log)
			// A log of many labels is not read all the time.
			pause.For(ctx, max(r.cfg.Interval, 10*time.Since(began)))
		}
		return nil
	})
}

// Round reads once what the log, which is called so, knows of all releases under way, and of
// experiments whose arms are allocated by labels.
func (r *Reader) Round(ctx context.Context, log string) {
	live := map[part]bool{}
	for l, err := range all(ctx, r.store.Read(repo.Scope{}), release.Releases, release.Live()) {
		if err == nil && logged(l.State.Plan.Steps[l.State.Step].Policy) {
			live[stepOf(&l)] = true
			err = r.read(ctx, &l, log)
		}
		if err != nil && ctx.Err() == nil {
			r.failures.Inc()
			r.cfg.Log.WarnContext(ctx, "what the prediction log knows of a release cannot be read; that is tried again", "release", string(l.Root.ID), "error", err)
		}
	}
	for x, err := range all(ctx, r.store.Read(repo.Scope{}), Experiments, experimentStopped.Eq(false)) {
		if b := x.State.Bandit; err == nil && b != nil && b.Label != "" {
			live[labelled(&x)] = true
			err = r.labels(ctx, &x, log)
		}
		if err != nil && ctx.Err() == nil {
			r.failures.Inc()
			r.cfg.Log.WarnContext(ctx, "what the prediction log knows of an experiment cannot be read; that is tried again", "experiment", string(x.Root.ID), "error", err)
		}
	}
	for p := range r.known {
		if !live[p] {
			delete(r.known, p)
		}
	}
	for p := range r.before {
		if !live[p] {
			delete(r.before, p)
		}
	}
}

// read stores what the log knows of the step of a release.
func (r *Reader) read(ctx context.Context, l *LoadedRelease, log string) error {
	arms, err := r.measure(ctx, l, log)
	if err != nil {
		return err
	}
	return r.update(ctx, stepOf(l), log, arms)
}

// labels stores what the log knows of the labels that an experiment is allocated by.
func (r *Reader) labels(ctx context.Context, x *LoadedExperiment, log string) error {
	b := x.State.Bandit
	scores, err := r.scores(ctx, record.Window{Experiment: string(x.Root.ID), From: x.CreatedAt, Within: b.Range})
	if err != nil {
		return err
	}
	var arms []Measure
	for _, a := range x.State.Config.Allocation.Arms() {
		m := Measure{Arm: a.Name, Weight: a.Weight}
		m.Numbers.Quality, m.Numbers.Outside = scores.of(a.Name, b.Label)
		arms = append(arms, m)
	}
	return r.update(ctx, labelled(x), log, arms)
}

// scored are the scores of labels: those within a range, and all.
type scored struct{ within, all record.Scores }

// scores reads the scores of a window.
func (r *Reader) scores(ctx context.Context, w record.Window) (s scored, err error) {
	within := w.Within
	w.Within = nil
	if s.all, err = r.log.Scores(ctx, w); err != nil || within == nil {
		s.within = s.all
		return s, err
	}
	w.Within = within
	s.within, err = r.log.Scores(ctx, w)
	return s, err
}

// of returns an arm's scores that count, and how many others it has.
func (s scored) of(arm, label string) (within sequential.Moments, outside int64) {
	within = s.within[arm][label]
	return within, max(0, s.all[arm][label].N-within.N) // a label may have come between the readings
}

// labelled is the part that an experiment's labels belong to. Its versions count from 1, so
// 0 is free.
func labelled(x *LoadedExperiment) part { return part{string(x.Root.ID), 0} }

// update stores what the log knows of a part, if that has changed.
func (r *Reader) update(ctx context.Context, p part, log string, arms []Measure) error {
	found := slices.ContainsFunc(arms, func(m Measure) bool { return m.Numbers.Quality.N+m.Numbers.Outside > 0 || len(m.Shapes) > 0 })
	before, known := r.known[p]
	if known && reflect.DeepEqual(before, arms) || !known && !found && !r.wrote(ctx, p, log) {
		return nil
	}
	if err := keep(ctx, r.store, p, log, arms, nil); err != nil {
		return err
	}
	r.known[p] = arms
	return nil
}

// measure reads what the log knows of the arms since the step of a release began.
func (r *Reader) measure(ctx context.Context, l *LoadedRelease, log string) ([]Measure, error) {
	id, policy := string(l.Root.ID), l.State.Plan.Steps[l.State.Step].Policy
	var scores scored
	var shapes record.Shapes
	var err error
	if q := policy.Quality; q != nil {
		if scores, err = r.scores(ctx, record.Window{Experiment: id, From: l.State.EnteredAt, Within: new(q.Within())}); err != nil {
			return nil, err
		}
	}
	if policy.Drift != nil {
		if shapes, err = r.log.Shapes(ctx, record.Filter{Experiment: id, From: l.State.EnteredAt}); err != nil {
			return nil, err
		}
	}
	var arms []Measure
	for _, a := range l.State.Allocation.Arms() {
		m := Measure{Arm: a.Name, Weight: a.Weight}
		if q := policy.Quality; q != nil {
			m.Numbers.Quality, m.Numbers.Outside = scores.of(a.Name, q.Counts())
		}
		m.merge(compared(shapes[a.Name], policy.Drift))
		arms = append(arms, m)
	}
	if d := policy.Drift; d != nil && d.Reference != "" {
		before, err := r.reference(ctx, l, d, log)
		if err != nil {
			return nil, err
		}
		arms = append(arms, before)
	}
	return arms, nil
}

// reference reads what the model answered before a release.
func (r *Reader) reference(ctx context.Context, l *LoadedRelease, d *evidence.Drift, log string) (Measure, error) {
	if m, known := r.before[stepOf(l)]; known {
		return m, nil
	}
	m, err := r.written(ctx, l, log)
	if err != nil || len(m.Shapes) > 0 {
		return m, err
	}
	to := l.CreatedAt.Truncate(record.Resolution) // else the log would count the release's first minute, too
	shapes, err := r.log.Shapes(ctx, record.Filter{Model: l.State.Plan.Model, From: to.Add(-d.Window()), To: to})
	if err != nil {
		return m, err
	}
	for _, of := range shapes { // whatever arm they are of
		m.merge(compared(of, d))
	}
	r.before[stepOf(l)] = m
	return m, nil
}

// written returns the reference that was stored from this log: decisions were made by it,
// while the log may have more or less by now.
func (r *Reader) written(ctx context.Context, l *LoadedRelease, log string) (Measure, error) {
	m, view := Measure{Arm: reference}, r.store.Read(repo.Scope{})
	id := TallyID(stepOf(l).String() + "/" + log)
	if there, err := TallyKind.Exists(ctx, view, id); err != nil || !there {
		return m, err
	}
	t, err := TallyKind.Get(ctx, view, id)
	if err != nil {
		return m, err
	}
	for _, a := range t.Arms {
		if a.Arm == reference {
			m.merge(a.Shapes)
		}
	}
	return m, nil
}

// compared returns the sketches that a guardrail compares.
func compared(shapes map[string]*drift.Sketch, d *evidence.Drift) map[string]*drift.Sketch {
	out := map[string]*drift.Sketch{}
	for name, s := range shapes {
		if d.Tensor == "" && record.IsOutput(name) || d.Tensor != "" && (name == d.Tensor || strings.HasPrefix(name, d.Tensor+"/")) {
			out[name] = s
		}
	}
	return out
}

// wrote reports whether something of a part was stored from the log, also where that cannot
// be known.
func (r *Reader) wrote(ctx context.Context, p part, log string) bool {
	there, err := TallyKind.Exists(ctx, r.store.Read(repo.Scope{}), TallyID(p.String()+"/"+log))
	return there || err != nil
}
