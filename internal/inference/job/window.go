package job

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// window is how many predictions of a tenant the queue holds that nobody has begun.
// What else it has waits in the store: so nobody waits for more than a window of
// each tenant, however much another has.
const window = 256

// Window lets predictions into the queue that wait in the store, as room comes: the
// urgent first, and of each priority those that were accepted first.
type Window struct {
	store *repo.Store
	cfg   Config
	log   *slog.Logger
	field int // of waits, among the columns

	mu      sync.Mutex
	touched map[string]bool // tenants of whom something may wait in the store
}

// NewWindow returns the window of a store. It sees what this process leaves in the
// store; of what others leave there it has to be told.
func NewWindow(store *repo.Store, cfg Config, log *slog.Logger) *Window {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Window{store: store, cfg: cfg.withDefaults(), log: log, field: Predictions.Schema().Index(waits.Name()), touched: map[string]bool{}}
	store.Watch(w.committed)
	return w
}

// committed notes whose predictions a changeset leaves in the store.
func (w *Window) committed(c *repo.Changeset) {
	for i := range c.Puts {
		if p := &c.Puts[i]; p.Kind == Predictions.Name && p.Fields[w.field].Text != "" {
			w.Touch(p.Tenant)
		}
	}
}

// Touch says that something of a tenant may wait in the store.
func (w *Window) Touch(tenant string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched[tenant] = true
}

// pace is how often it is looked for room: a window in this time is the most that
// a tenant with much gets done in a process.
const pace = 50 * time.Millisecond

// Run lets predictions in until ctx ends.
func (w *Window) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		w.round(ctx)
		pause.For(ctx, pace)
	}
	return nil
}

// round looks for room of those of whom something waits.
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

// Release lets predictions of a tenant in where a quarter of its window is free,
// and says whether more may wait.
func (w *Window) Release(ctx context.Context, tenant string) (more bool, err error) {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	from := w.store.Read(scope)
	out, err := outstanding(ctx, from)
	if err != nil {
		return true, err
	}
	room := window - out
	if room < window/4 {
		return true, nil
	}
	share := room / 8 // for each of the less urgent: none waits for ever
	for i, p := range priorities {
		n := room - share*(len(priorities)-1-i)
		page, err := Predictions.Find(ctx, from, spec.Query[Prediction]{Where: waits.Eq(string(p)), Limit: n})
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

// outstanding is how many predictions the queue holds that nobody has begun. A
// store that cannot count is asked for as many as there may be.
func outstanding(ctx context.Context, from repo.Reading) (int, error) {
	queued, err := Predictions.Count(ctx, from, status.Eq(Queued))
	if err == nil {
		var apart int64
		apart, err = Predictions.Count(ctx, from, waits.Gt(""))
		return int(queued - apart), err
	}
	if !errors.Is(err, spec.ErrUnsupported) {
		return 0, err
	}
	page, err := Predictions.Find(ctx, from, spec.Query[Prediction]{Where: status.Eq(Queued), Limit: window})
	n := 0
	for i := range page.Items {
		if page.Items[i].Waits == "" {
			n++
		}
	}
	return n, err
}

// announce lets predictions in: together, where the store can.
func (w *Window) announce(ctx context.Context, scope repo.Scope, list []Prediction) error {
	size := 1
	if w.store.Driver().Features().MultiAggregate {
		size = max(len(list), 1)
	}
	for some := range slices.Chunk(list, size) {
		err := w.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
			for i := range some {
				if err := w.one(ctx, tx, some[i].ID); err != nil && !fault.Is(err, fault.NotFound) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *Window) one(ctx context.Context, tx *repo.Tx, id ID) error {
	in := false
	p, err := update(ctx, tx, id, func(p *Prediction) error { in = p.letIn(tx.Now(), w.cfg.Timing); return nil })
	if err != nil || !in {
		return err
	}
	return announce(tx, &p)
}
