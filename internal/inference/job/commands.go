package job

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of predictions; to make one is to have a model answer.
const (
	Run  access.Permission = "models:predict"
	Read access.Permission = "predictions:read"
)

// Where it is said that there may be something to do.
const (
	streamJobs = "jobs" // in the outbox
	streamName = "JOBS" // in the queue
)

// Stream is the stream of those messages. It keeps what nobody has handled.
func Stream(replicas int, duplicates time.Duration) queue.Stream {
	return queue.Stream{Name: streamName, Subjects: []string{streamJobs + ".>"}, Retention: queue.Work, Discard: queue.Refuse, Replicas: replicas, Duplicates: duplicates}
}

// Submit accepts a prediction.
type Submit struct {
	cqrs.Returns[*Prediction]
	ID             ID // that its payload was kept for; empty makes one
	Model, Version string
	Arm            Arm // whose version runs it instead, where there is one
	Input          Payload
	ClientRef      string
	Deadline       time.Time // zero: none
	Priority       Priority  // empty: Normal
}

// CommandName implements cqrs.Command.
func (Submit) CommandName() string { return "predictions.submit" }

// Cancel says that a prediction is wanted no more.
type Cancel struct {
	cqrs.Returns[*Prediction]
	ID ID
}

// CommandName implements cqrs.Command.
func (Cancel) CommandName() string { return "predictions.cancel" }

// Target implements cqrs.Targeted.
func (c Cancel) Target() (kind, id string) { return Predictions.Name, string(c.ID) }

// Find asks for one prediction.
type Find struct {
	cqrs.Returns[*Prediction]
	ID ID
}

// QueryName implements cqrs.Query.
func (Find) QueryName() string { return "predictions.read" }

// Follow asks for a prediction that the principal has made itself: who may have
// one made may wait for its end.
type Follow struct {
	cqrs.Returns[*Prediction]
	ID ID
}

// QueryName implements cqrs.Query.
func (Follow) QueryName() string { return "predictions.follow" }

// Config holds what is common to all that deals with predictions; the zero value
// has defaults.
type Config struct {
	Timing
	MaxRun time.Duration // of one attempt, however well it gets on; default 10 minutes
	// MaxStall is for how long an attempt may go on while its model completes no
	// run, its own or another's; default 2 minutes.
	MaxStall time.Duration
	// Deaths of workers that begin the quarantine of a version; default 3, and
	// never where it is negative.
	Deaths int
	Drain  time.Duration // for running attempts to end when a worker stops, before they are given back; default 10s
	// Queued says how many predictions of a tenant wait, for whoever submits; nil
	// where everything is announced at once.
	Queued func(tenant string) int
}

func (c Config) withDefaults() Config {
	if c.Queued == nil {
		c.Queued = func(string) int { return 0 }
	}
	if c.Lease <= 0 {
		c.Lease = 30 * time.Second
	}
	if c.Notice <= 0 {
		c.Notice = time.Minute
	}
	if c.Keep <= 0 {
		c.Keep = 24 * time.Hour
	}
	if c.Attempts <= 0 {
		c.Attempts = 5
	}
	if c.Hold <= 0 {
		c.Hold = time.Hour
	}
	if c.Deaths == 0 {
		c.Deaths = 3
	}
	if c.MaxStall <= 0 {
		c.MaxStall = 2 * time.Minute
	}
	if c.MaxRun <= 0 {
		c.MaxRun = 10 * time.Minute
	}
	return c
}

// Register adds the commands and queries to the bus.
func Register(b *cqrs.Bus, cfg Config) {
	cfg = cfg.withDefaults()
	cqrs.Handle(b, Run, func(ctx context.Context, tx *repo.Tx, c Submit) (*Prediction, error) {
		version := c.Version
		if c.Arm.Version != "" {
			version = c.Arm.Version
		}
		p := &Prediction{Model: c.Model, Version: version, Arm: c.Arm, Input: c.Input, ClientRef: c.ClientRef, Deadline: c.Deadline, Priority: c.Priority}
		if p.ID = c.ID; p.ID == "" {
			p.ID = repo.NewID[ID](tx, Prefix)
		}
		p.Accept(tx.Now(), cfg.Timing)
		if cfg.Queued(tx.Tenant()) >= window {
			p.Park()
			return p, Predictions.Add(ctx, tx, p)
		}
		if err := Predictions.Add(ctx, tx, p); err != nil {
			return nil, err
		}
		return p, announce(tx, p)
	})
	cqrs.Handle(b, Run, func(ctx context.Context, tx *repo.Tx, c Cancel) (*Prediction, error) {
		p, err := update(ctx, tx, c.ID, func(p *Prediction) error { p.Cancel(tx.Now(), cfg.Timing); return nil })
		return &p, err
	})
	cqrs.Handle(b, Replays, revive(cfg))
	cqrs.Handle(b, Release, free, cqrs.Platform())
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q Find) (*Prediction, error) {
		p, err := Predictions.Get(ctx, from, q.ID)
		return &p, err
	})
	cqrs.HandleQuery(b, Run, func(ctx context.Context, from repo.Reading, q Follow) (*Prediction, error) {
		p, err := Predictions.Get(ctx, from, q.ID)
		if who, ok := access.From(ctx); err == nil && (!ok || p.CreatedBy != who.Subject) {
			return nil, repo.ErrNotFound
		}
		return &p, err
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q List) (spec.Page[Prediction], error) {
		return Predictions.Find(ctx, from, q.query())
	})
}

// hint is what such a message says of its prediction, so that a worker without
// the model need not read it.
type hint struct {
	Model   string `json:"model"`
	Version string `json:"version,omitempty"`
}

// announce says in the queue that a prediction may have something to do.
func announce(tx *repo.Tx, p *Prediction) error {
	data, err := json.Marshal(hint{p.Model, p.Version})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a message cannot be encoded")
	}
	return tx.Publish(repo.Message{Stream: streamJobs, Type: "prediction.due", Key: repo.Key{Kind: Predictions.Name, ID: string(p.ID)}, Data: data})
}

// Reconciler says again what is due, whatever became of the queue's messages.
type Reconciler struct {
	store *repo.Store
	cfg   Config
}

// NewReconciler returns the reconciler of a store.
func NewReconciler(store *repo.Store, cfg Config) *Reconciler {
	return &Reconciler{store, cfg.withDefaults()}
}

// batch is how many due predictions are looked at a time.
const batch = 200

// Tenant says again what is due of one tenant, and returns how much that was.
func (r *Reconciler) Tenant(ctx context.Context, tenant string) (int, error) {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	n, remindedHeld := 0, 0
	for p, err := range Predictions.All(ctx, r.store.Read(scope), dueQuery(r.store.Now())) {
		if err != nil {
			return n, err
		}
		if p.Waits == held && !p.late(r.store.Now()) {
			if remindedHeld++; remindedHeld > window {
				continue // the next round's: others must not wait behind them
			}
		}
		if err := r.remind(ctx, scope, p.ID); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Settle ends a prediction that is overdue, and says again what is due: whoever
// reads one need not wait for the next round to be told that it has expired.
func (r *Reconciler) Settle(ctx context.Context, tenant string, id ID) error {
	return r.remind(ctx, repo.Scope{Tenant: tenant, Actor: "system"}, id)
}

// remind looks after one prediction. What has changed meanwhile, or is gone, needs
// that no more.
func (r *Reconciler) remind(ctx context.Context, scope repo.Scope, id ID) error {
	err := r.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		overdue := false
		now, err := update(ctx, tx, id, func(p *Prediction) error { overdue = p.Remind(tx.Now(), r.cfg.Timing); return nil })
		if err != nil || !overdue {
			return err
		}
		return announce(tx, &now)
	})
	if fault.Is(err, fault.NotFound) || errors.Is(err, repo.ErrConflict) {
		return nil
	}
	return err
}

// List asks for a page of predictions; what is empty selects nothing.
type List struct {
	cqrs.Returns[spec.Page[Prediction]]
	Status           Status
	Model, ClientRef string
	Priority         Priority
	Dead             bool // only dead letters
	Query            spec.Query[Prediction]
}

// QueryName implements cqrs.Query.
func (List) QueryName() string { return "predictions.list" }

// query adds the conditions to the query.
func (q List) query() spec.Query[Prediction] {
	var rules []spec.Spec[Prediction]
	// The one that selects the least comes first: some stores follow that.
	if q.ClientRef != "" {
		rules = append(rules, clientRef.Eq(q.ClientRef))
	}
	if q.Dead {
		rules = append(rules, dead.Eq(true))
	}
	if q.Priority != "" {
		rules = append(rules, priority.Eq(q.Priority))
	}
	if q.Model != "" {
		rules = append(rules, model.Eq(q.Model))
	}
	if q.Status != "" {
		rules = append(rules, status.Eq(q.Status))
	}
	switch len(rules) {
	case 0:
	case 1:
		q.Query.Where = rules[0]
	default:
		q.Query.Where = spec.And(rules...)
	}
	return q.Query
}
