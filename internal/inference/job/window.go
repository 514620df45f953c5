package job

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// window is how many predictions of a tenant wait in the queue. The others wait in the store,
// so that nobody waits for more than a window of each tenant, however many another has.
const window = 256

// Window lets predictions that wait in the store into the queue as there is room: the urgent
// first, and of each priority those first that were accepted first.
type Window struct {
	store *repo.Store
	cfg   Config
	log   *slog.Logger
	field int // the place of stands among the columns

	mu      sync.Mutex
	touched map[string]bool // tenants of whom something may wait in the store
}

// NewWindow returns the window of a store. It sees what this process leaves in the store;
// Touch tells it what others leave there.
func NewWindow(store *repo.Store, cfg Config, log *slog.Logger) *Window {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Window{store: store, cfg: cfg.withDefaults(), log: log, field: Predictions.Schema().Index(stands.Name()), touched: map[string]bool{}}
	store.Watch(w.committed)
	return w
}

// committed notes whose predictions a changeset leaves in the store.
func (w *Window) committed(c *repo.Changeset) {
	for i := range c.Puts {
		p := &c.Puts[i]
		if p.Kind != Predictions.Name {
			continue
		}
		if s := p.Fields[w.field].Text; s != "" && s != announced {
			w.Touch(p.Tenant)
		}
	}
}

// Touch notes that predictions of a tenant may wait in the store.
func (w *Window) Touch(tenant string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched[tenant] = true
}

// pace is how often the window looks for room. A process lets in at most a window of a
// tenant in this time.
const pace = 50 * time.Millisecond

// Run lets predictions in until ctx ends.
func (w *Window) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		w.round(ctx)
		pause.For(ctx, pace)
	}
	return nil
}

// round looks for room for tenants with something in the store.
func (w *Window) round(ctx context.Context) {
	w.mu.Lock()
	tenants := slices.Sorted(maps.Keys(w.touched))
	clear(w.touched)
	w.mu.Unlock()
	for _, tenant := range tenants {
		more, err := w.Release(ctx, tenant)
		if err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "predictions that wait in the store could not be let into the queue; it is tried again", "tenant", tenant, "error", err)
		}
		if more || err != nil {
			w.Touch(tenant)
		}
	}
}

// Release lets predictions of a tenant in if a quarter of its window is free or all that it
// has fits into it, and returns whether more may wait.
func (w *Window) Release(ctx context.Context, tenant string) (more bool, err error) {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	from := w.store.Read(scope)
	out, err := count(ctx, from, stands.Eq(announced))
	if err != nil {
		return true, err
	}
	room := window - out
	if room < window/4 {
		// While fewer than a window wait, Submit parks nothing: then what is in the store must
		// not wait for a quarter to be free.
		if all, err := count(ctx, from, status.Eq(Queued)); err != nil || room <= 0 || all >= window {
			return true, err
		}
	}
	share := room / 8 // for each of the less urgent, so that none waits for ever
	for i, p := range priorities {
		n := room - share*(len(priorities)-1-i)
		if n <= 0 {
			return true, nil
		}
		page, err := Predictions.Find(ctx, from, spec.Query[Prediction]{Where: stands.Eq(string(p)), Limit: n})
		if err != nil {
			return true, err
		}
		if err := w.announce(ctx, scope, page.Items); err != nil {
			return true, err
		}
		room -= len(page.Items)
		more = more || page.Next != ""
	}
	return more, nil
}

// count returns how many predictions a rule selects, up to a window.
func count(ctx context.Context, from repo.Reading, rule spec.Spec[Prediction]) (int, error) {
	n, err := Predictions.CountTo(ctx, from, rule, window)
	return int(n), err
}

// apart is how many predictions are let in at a time where the store changes each by itself.
const apart = 16

// announce lets predictions in, all by one change where the store can do that.
func (w *Window) announce(ctx context.Context, scope repo.Scope, list []Prediction) error {
	if w.store.Driver().Features().MultiAggregate {
		return w.letIn(ctx, scope, list)
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(apart)
	for i := range list {
		all.Go(func() error { return w.letIn(ctx, scope, list[i:i+1]) })
	}
	return all.Wait()
}

// letIn lets predictions in by one change.
func (w *Window) letIn(ctx context.Context, scope repo.Scope, list []Prediction) error {
	if len(list) == 0 {
		return nil
	}
	return w.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		for i := range list {
			if err := w.one(ctx, tx, list[i].ID); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
		return nil
	})
}

func (w *Window) one(ctx context.Context, tx *repo.Tx, id ID) error {
	in := false
	p, err := update(ctx, tx, id, func(p *Prediction) error { in = p.letIn(tx.Now(), w.cfg.Timing); return nil })
	if err != nil || !in {
		return err
	}
	return announce(tx, &p)
}
