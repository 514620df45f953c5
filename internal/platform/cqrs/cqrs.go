// Package cqrs has the buses that commands and queries go through: typed from
// end to end, with authorisation, audit, traces and metrics around every
// handler, and a unit of work inside of every command's.
//
//	type RenameTenant struct {
//		cqrs.Returns[Tenant]
//		ID   TenantID
//		Name string
//	}
//	func (RenameTenant) CommandName() string { return "tenants.rename" }
//
//	cqrs.Handle(bus, "tenants:write", func(ctx context.Context, tx *repo.Tx, c RenameTenant) (Tenant, error) { … })
//	tenant, err := cqrs.Send(ctx, bus, RenameTenant{ID: id, Name: name})
//
// Predictions never come here: package serve is their way. Buses do not queue
// and do not retry; a command that is to survive its caller is a job.
package cqrs

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Command asks for a change; its handler returns an R. Embed Returns[R] to be one.
type Command[R any] interface {
	// CommandName is the command's stable name, "tenants.rename" say. It stands
	// in the audit log.
	CommandName() string
	returns(R)
}

// Query asks for an R without changing anything. Embed Returns[R] to be one.
type Query[R any] interface {
	// QueryName is the query's stable name, "tenants.list" say.
	QueryName() string
	returns(R)
}

// Returns says what the handler of the command or query that embeds it returns.
type Returns[R any] struct{}

func (Returns[R]) returns(R) {}

// Validated is a command or query that can say what is wrong with itself; its
// handler is called only where nothing is.
type Validated interface{ Validate() error }

// Targeted is a command that knows what it is about before it has run, so that
// the audit log says what somebody was denied.
type Targeted interface{ Target() (kind, id string) }

// Origin is where a command or query comes from.
type Origin struct {
	Request     string    // the id of the request
	Correlation string    // of all that one request has set in motion
	Causation   string    // the id of the message that caused it
	TraceParent string    // W3C Trace Context
	Operation   uuid.UUID // the same where a request is repeated; zero: it is never repeated
}

// Call is what middleware knows of a command or query that is under way.
type Call struct {
	Name       string
	Permission access.Permission
	Principal  *access.Principal // nil where nobody was authenticated
	Origin     Origin
	Command    bool // otherwise a query

	target  [2]string // kind and id, where they are known beforehand
	payload any       // the *invocation, which knows the types
}

// Next goes on with a call.
type Next func(ctx context.Context, call *Call) error

// Middleware stands around every call of a bus.
type Middleware func(next Next) Next

// Config holds what a Bus may be given; everything is optional.
type Config struct {
	// Origin finds out where a call comes from.
	Origin func(ctx context.Context) Origin
	// Middleware stands around every call, the first outermost, behind
	// authorisation and before validation and the handler.
	Middleware []Middleware
	// AuditKey is the secret that the audit log's commitments to changes are
	// made with; without it entries have none.
	AuditKey []byte
	Tracer   trace.Tracer
	Metrics  prometheus.Registerer
	Log      *slog.Logger // nil discards
}

// Bus dispatches commands and queries. Handlers are registered before the first
// call; from then on it is safe for concurrent use.
type Bus struct {
	store    *repo.Store
	cfg      Config
	handlers map[string]any // *route[C, R] by name
	rules    map[string]Rule
	routes   []Route
	metrics  *metrics
	cache    *cache
	denials  *denials
}

// Route is a registered command or query.
type Route struct {
	Name       string
	Permission access.Permission
	Command    bool
}

// NewBus returns a bus whose commands change the store.
func NewBus(store *repo.Store, cfg Config) (*Bus, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Origin == nil {
		cfg.Origin = func(context.Context) Origin { return Origin{} }
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	c, err := newCache()
	if err != nil {
		return nil, err
	}
	store.Watch(func(committed *repo.Changeset) {
		for _, p := range committed.Puts {
			c.forget(p.Tenant, p.Kind)
		}
	})
	return &Bus{store: store, cfg: cfg, handlers: map[string]any{}, rules: map[string]Rule{}, metrics: m, cache: c, denials: newDenials(store.Now)}, nil
}

// Routes returns what is registered, in the order of registration.
func (b *Bus) Routes() []Route { return b.routes }

// route is a registered handler with everything around it.
type route[C, R any] struct {
	Route
	run       Next
	validated bool
	targeted  bool
}

// invocation is one call of a route; it is all that a call allocates here.
type invocation[C, R any] struct {
	Call
	input  C
	result R
}

// Option changes how a handler is called.
type Option func(*options)

type options struct {
	platform bool
	ttl      time.Duration
	kinds    []string
}

// Platform has the handler work on what belongs to the platform instead of the
// principal's tenant.
func Platform() Option { return func(o *options) { o.platform = true } }

func tenantOf(o options) func(*access.Principal) string {
	if o.platform {
		return func(*access.Principal) string { return "" }
	}
	return func(p *access.Principal) string { return p.Tenant }
}

// register adds a route. It panics where the name is taken or no permission is
// named: both are defects, seen at the first start.
func register[C, R any](b *Bus, r *route[C, R]) {
	if _, taken := b.handlers[r.Name]; taken {
		panic("cqrs: " + r.Name + " has a handler already")
	}
	if r.Permission == "" {
		panic("cqrs: " + r.Name + " needs a permission: everything is denied by default")
	}
	r.validated, r.targeted = has[Validated, C](r.Name), has[Targeted, C](r.Name)
	b.handlers[r.Name] = r
	b.routes = append(b.routes, r.Route)
}

// has says whether a C is a T. It panics where only a *C is one, whose methods
// would never be called: a defect.
func has[T, C any](name string) bool {
	var c C
	_, value := any(c).(T)
	if _, pointer := any(&c).(T); pointer && !value {
		panic("cqrs: " + name + " has a method on its pointer that is not called for its value: declare it on the value")
	}
	return value
}

// check returns what is wrong with the input.
func (r *route[C, R]) check(input C) error {
	if !r.validated {
		return nil
	}
	return any(input).(Validated).Validate()
}

// around puts authorisation and all middleware around a handler.
func (b *Bus) around(r Route, base Next) Next {
	for i := len(b.cfg.Middleware) - 1; i >= 0; i-- {
		base = b.cfg.Middleware[i](base)
	}
	return b.observe(r, b.authorise(base))
}

// dispatch runs the route of a name.
func dispatch[C, R any](ctx context.Context, b *Bus, name string, input C) (R, error) {
	r, ok := b.handlers[name].(*route[C, R])
	if !ok {
		return *new(R), fault.New(fault.Internal, "nothing handles %s", name).WithCode("no_handler")
	}
	p, _ := access.From(ctx)
	inv := &invocation[C, R]{input: input, Call: Call{Name: r.Name, Permission: r.Permission, Command: r.Command, Principal: p, Origin: b.cfg.Origin(ctx)}}
	inv.payload = inv
	if r.targeted {
		inv.target[0], inv.target[1] = any(input).(Targeted).Target()
	}
	if err := r.run(ctx, &inv.Call); err != nil {
		return *new(R), err
	}
	return inv.result, nil
}

// scope is for whom and by whom a call is done.
func (c *Call) scope(tenant string) repo.Scope {
	return repo.Scope{Tenant: tenant, Actor: c.Principal.Subject, Request: c.Origin.Request, Correlation: c.Origin.Correlation,
		Causation: c.Origin.Causation, TraceParent: c.Origin.TraceParent, Operation: c.Origin.Operation}
}
