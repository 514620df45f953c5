package job

import (
	"context"
	"encoding/json"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of predictions. Making one is having a model answer.
const (
	Run  access.Permission = "models:predict"
	Read access.Permission = "predictions:read"
)

// The stream of hints that predictions are due.
const (
	streamJobs = "jobs" // in the outbox
	streamName = "JOBS" // in the queue
)

// Stream is the stream of hints that predictions are due. It keeps those that nobody has
// handled.
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

// Cancel cancels a prediction.
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

// Follow asks for a prediction that the caller has made: whoever may make one may wait for
// its end.
type Follow struct {
	cqrs.Returns[*Prediction]
	ID ID
}

// QueryName implements cqrs.Query.
func (Follow) QueryName() string { return "predictions.follow" }

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

// Config holds the settings of all that deals with predictions; the zero value has
// defaults.
type Config struct {
	Timing
	MaxRun time.Duration // of one attempt, however well it gets on; default 10 minutes
	// MaxStall is for how long an attempt may go on while its model completes no
	// run, its own or another's; default 2 minutes.
	MaxStall time.Duration
	// Deaths is how many deaths of workers put a version into quarantine; default 3. A
	// negative number never does.
	Deaths int
	Drain  time.Duration // for running attempts to end when a worker stops, before they are given back; default 10s
	// Queued says how many predictions of a tenant wait, so that Submit parks what exceeds
	// the window; nil announces everything at once.
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

// hint is the data of such a message: a worker that lacks the model need not read the
// prediction.
type hint struct {
	Model   string `json:"model"`
	Version string `json:"version,omitempty"`
}

// announce sends a hint that a prediction is due.
func announce(tx *repo.Tx, p *Prediction) error {
	data, err := json.Marshal(hint{p.Model, p.Version})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a message cannot be encoded")
	}
	return tx.Publish(repo.Message{Stream: streamJobs, Type: "prediction.due", Key: repo.Key{Kind: Predictions.Name, ID: string(p.ID)}, Data: data})
}
