package job

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Backlog knows how many predictions wait to be run, and for how long. What this process
// commits it counts at once; what others do it learns by looking at the store, every ten
// seconds, and every second for tenants of whom many wait. In between its figures lack
// what others have accepted and begun.
//
// A store that cannot count, such as CQL, shows at most a window of a tenant's waiting
// predictions; there only the waiting time limits.
type Backlog struct {
	store   *repo.Store
	tenants func(ctx context.Context) iter.Seq2[string, error]
	limits  Limits
	metrics *backlogMetrics
	log     *slog.Logger

	mu  sync.Mutex
	of  map[string]*standing // by tenant; those with waiting predictions
	all standing             // sums queued and rate up; the rest is not kept
}

// standing is what is known of one tenant's waiting predictions.
type standing struct {
	queued int       // how many wait
	least  int       // how many wait at least, where the store shows no more; else 0
	oldest time.Time // when the one that waits longest was accepted; zero where none waits

	came, left int       // since the last look
	was        int       // queued at the last look
	moved      time.Time // the last look at which some had left, or else the first
	rate       float64   // at which predictions leave, per second, while many wait; 0 for unknown
}

const (
	lookInterval = 10 * time.Second
	busyInterval = time.Second
	// busy is from how many waiting predictions on the workers are busy, so that the rate at
	// which predictions leave is that of the workers and not that of the clients.
	busy = 32
)

// BacklogConfig is what a Backlog may be given.
type BacklogConfig struct {
	Limits  Limits
	Metrics prometheus.Registerer
	Log     *slog.Logger // nil discards
}

// NewBacklog returns the backlog of a store's tenants. It watches the store's
// commits; Run has it look at what others do.
func NewBacklog(store *repo.Store, tenants func(context.Context) iter.Seq2[string, error], cfg BacklogConfig) (*Backlog, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Backlog{store: store, tenants: tenants, limits: cfg.Limits.withDefaults(), log: cfg.Log, of: map[string]*standing{}}
	var err error
	b.metrics, err = newBacklogMetrics(cfg.Metrics, b)
	store.Watch(b.committed)
	return b, err
}

// Run looks at the store until ctx ends.
func (b *Backlog) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := b.Look(ctx); err != nil && ctx.Err() == nil {
			b.log.WarnContext(ctx, "waiting predictions could not be counted; those of other processes are not seen", "error", err)
		}
		for next := b.store.Now().Add(lookInterval); ctx.Err() == nil && b.store.Now().Before(next); {
			pause.For(ctx, busyInterval)
			b.lookBusy(ctx)
		}
	}
	return nil
}

// Look counts what waits of every tenant.
func (b *Backlog) Look(ctx context.Context) error {
	var failed []error // a tenant that cannot be read keeps the count it had
	for tenant, err := range b.tenants(ctx) {
		if err == nil {
			err = b.look(ctx, tenant)
		}
		if err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	b.sum()
	return errors.Join(failed...)
}

// lookBusy counts the waiting predictions of tenants with many. Where that fails, the next
// Look counts them.
func (b *Backlog) lookBusy(ctx context.Context) {
	b.mu.Lock()
	var many []string
	for tenant, s := range b.of {
		if s.queued >= busy {
			many = append(many, tenant)
		}
	}
	b.mu.Unlock()
	for _, tenant := range many {
		if b.look(ctx, tenant) != nil {
			return
		}
	}
	if len(many) > 0 {
		b.sum()
	}
}

// look counts the waiting predictions of one tenant.
func (b *Backlog) look(ctx context.Context, tenant string) error {
	from := b.store.Read(repo.Scope{Tenant: tenant})
	waits := spec.Query[Prediction]{Where: status.Eq(Queued), Limit: 1}
	n, err := Predictions.Count(ctx, from, waits.Where)
	if errors.Is(err, spec.ErrUnsupported) {
		waits.Limit, err = window, nil
	}
	if err != nil {
		return err
	}
	page, err := Predictions.Find(ctx, from, waits)
	if err != nil {
		return err
	}
	// Predictions that are held or parked say nothing of how soon others are run.
	first, err := Predictions.Find(ctx, from, spec.Query[Prediction]{Where: stands.Eq(announced), Limit: 1}) // ids are in the order of acceptance
	if err != nil {
		return err
	}
	oldest := time.Time{}
	if len(first.Items) > 0 {
		oldest = first.Items[0].Since // CreatedAt would include earlier lives
	}
	least := 0
	if waits.Limit > 1 && page.Next != "" {
		least = len(page.Items)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	queued := max(int(n), len(page.Items))
	if queued > 0 || b.of[tenant] != nil {
		s := b.standing(tenant)
		s.seen(queued, oldest, b.store.Now())
		s.least = least
	}
	return nil
}

// seen takes over what a look has found. The rate is that of the times in which some left:
// while none do the workers are away, which says nothing of how fast they will be, and the
// waiting time of the oldest limits.
func (s *standing) seen(queued int, oldest, now time.Time) {
	departed := s.left + max(s.was+s.came-s.left-queued, 0) // here, and elsewhere
	since := now.Sub(s.moved).Seconds()
	switch {
	case s.moved.IsZero() || s.was < busy || queued < busy:
		s.rate, s.moved = 0, now
	case departed == 0 && s.rate == 0: // no worker has come yet: this time is not part of how long the first took
		s.moved = now
	case departed == 0 || since <= 0:
	case s.rate == 0:
		s.rate, s.moved = float64(departed)/since, now
	default:
		const weight = 0.3 // of the latest
		s.rate, s.moved = s.rate+weight*(float64(departed)/since-s.rate), now
	}
	s.queued, s.was, s.came, s.left, s.oldest = queued, queued, 0, 0, oldest
}

// sum sums up the figures of all tenants, and forgets tenants without any.
func (b *Backlog) sum() {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := standing{}
	for tenant, s := range b.of {
		if s.queued == 0 && s.came == 0 && s.left == 0 {
			delete(b.of, tenant)
			continue
		}
		all.queued += s.queued
		all.rate += s.rate
	}
	b.all = all
}

// standing returns a tenant's standing; mu is held.
func (b *Backlog) standing(tenant string) *standing {
	s := b.of[tenant]
	if s == nil {
		s = &standing{}
		b.of[tenant] = s
	}
	return s
}

// committed counts what a changeset of this process has changed.
func (b *Backlog) committed(c *repo.Changeset) {
	for i := range c.Messages {
		m := &c.Messages[i]
		if m.Kind != Predictions.Name || m.Stream != repo.StreamEvents {
			continue
		}
		var e Changed
		if json.Unmarshal(m.Data, &e) == nil && (e.Status == Queued) != (e.Previous == Queued) {
			b.count(m.Tenant, e.Status == Queued, m.Time)
		}
	}
}

// count notes that a prediction began to wait, or does not wait any more.
func (b *Backlog) count(tenant string, came bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.standing(tenant)
	switch {
	case came:
		s.came++
		s.queued++
		b.all.queued++
		if s.oldest.IsZero() {
			s.oldest = now
		}
	case s.queued > 0:
		s.left++
		s.queued--
		b.all.queued--
		if s.queued == 0 {
			s.oldest = time.Time{}
		}
	}
}

// Queued returns how many predictions of a tenant wait.
func (b *Backlog) Queued(tenant string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.of[tenant]; s != nil {
		return max(s.queued, s.least)
	}
	return 0
}
