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
	"sluice/internal/inference/record"
	"sluice/internal/inference/release"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// PredictionLog is what the evidence of releases takes of record.Store.
type PredictionLog interface {
	Scores(ctx context.Context, w record.Window) (record.Scores, error)
	Shapes(ctx context.Context, f record.Filter) (record.Shapes, error)
	Identity(ctx context.Context) (string, error)
}

// logged says whether a policy asks for what only the prediction log knows.
func logged(p evidence.Policy) bool { return p.Quality != nil || p.Drift != nil }

// Reader reads from a prediction log what the guardrails of releases ask for, and
// writes it to the store, where it adds up with what other logs have. Of the processes
// that have the same log open one reads at a time.
type Reader struct {
	store    *repo.Store
	log      PredictionLog
	cfg      TurnConfig
	failures prometheus.Counter
	known    map[part][]Measure // what the store has, as far as this process wrote it
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

// Round reads once what the log of a name knows of all releases under way, and of
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

// read brings the store up to date about the step of a release.
func (r *Reader) read(ctx context.Context, l *LoadedRelease, log string) error {
	arms, err := r.measure(ctx, l, log)
	if err != nil {
		return err
	}
	return r.update(ctx, stepOf(l), log, arms)
}

// labels reads the labels of a name, which an experiment's arms are allocated by.
func (r *Reader) labels(ctx context.Context, x *LoadedExperiment, log string) error {
	b, window := x.State.Bandit, record.Window{Experiment: string(x.Root.ID), From: x.CreatedAt}
	all, err := r.log.Scores(ctx, window)
	if err != nil {
		return err
	}
	scores := all
	if window.Within = b.Range; b.Range != nil {
		if scores, err = r.log.Scores(ctx, window); err != nil {
			return err
		}
	}
	var arms []Measure
	for _, a := range x.State.Config.Allocation.Arms() {
		m := Measure{Arm: a.Name, Weight: a.Weight}
		m.Numbers.Quality = scores[a.Name][b.Label]
		m.Numbers.Outside = max(0, all[a.Name][b.Label].N-m.Numbers.Quality.N) // a label may have come between
		arms = append(arms, m)
	}
	return r.update(ctx, labelled(x), log, arms)
}

// labelled is the part that an experiment's labels are of: its versions count from 1.
func labelled(x *LoadedExperiment) part { return part{string(x.Root.ID), 0} }

// update brings the store up to date about a part.
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
	var scores, all record.Scores
	var shapes record.Shapes
	var err error
	if q := policy.Quality; q != nil {
		window := record.Window{Experiment: id, From: l.State.EnteredAt}
		if all, err = r.log.Scores(ctx, window); err != nil {
			return nil, err
		}
		window.Within = new(q.Within())
		if scores, err = r.log.Scores(ctx, window); err != nil {
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
			m.Numbers.Quality = scores[a.Name][q.Counts()]
			m.Numbers.Outside = max(0, all[a.Name][q.Counts()].N-m.Numbers.Quality.N) // a label may have come between
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
	to := l.CreatedAt.Truncate(record.Resolution) // the log would count the release's first minute
	shapes, err := r.log.Shapes(ctx, record.Filter{Model: l.State.Plan.Model, From: to.Add(-d.Window()), To: to})
	if err != nil {
		return m, err
	}
	for _, of := range shapes { // of whatever arms there were
		m.merge(compared(of, d))
	}
	r.before[stepOf(l)] = m
	return m, nil
}

// written returns the reference that the store has of this log: decisions were made by it,
// and what the log has now may be less, or more.
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

// compared returns what a guardrail compares.
func compared(shapes map[string]*drift.Sketch, d *evidence.Drift) map[string]*drift.Sketch {
	out := map[string]*drift.Sketch{}
	for name, s := range shapes {
		if d.Tensor == "" && record.IsOutput(name) || d.Tensor != "" && (name == d.Tensor || strings.HasPrefix(name, d.Tensor+"/")) {
			out[name] = s
		}
	}
	return out
}

// wrote says whether the store has something of a part from the log, or may.
func (r *Reader) wrote(ctx context.Context, p part, log string) bool {
	there, err := TallyKind.Exists(ctx, r.store.Read(repo.Scope{}), TallyID(p.String()+"/"+log))
	return there || err != nil
}
