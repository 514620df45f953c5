// Package node is what every process of the platform has in common: the store,
// the queue, the objects, the buses, and what carries messages between them.
// Which engine is behind each is the configuration's affair.
package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/platform/access"
	"sluice/internal/platform/admin"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/config"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/traced"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/tracerepo"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/telemetry"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/idempotency"
)

// Deps is what a node reports to, and what its process adds to it.
type Deps struct {
	Log         *slog.Logger
	Metrics     prometheus.Registerer
	Tracing     *telemetry.Tracing
	Health      *telemetry.Health
	Permissions []access.Declaration // beside the platform's own
	Schemas     []*repo.Schema
	Streams     []queue.Stream
	Expiring    []string // kinds of which things end by themselves
	Objects     []Objects
	// EventLabels are what feeds of events can be narrowed by; nil for none.
	EventLabels func(*repo.Message) map[string]string
}

// Objects are the objects that a part of the process writes: those below
// <tenant>/<folder>, under names that are used once.
type Objects struct {
	Folder string
	Owned  func(ctx context.Context, store *repo.Store, tenant, key string) (bool, error) // see blob.SweepOrphans
}

// Node is the common part of a process.
type Node struct {
	Store     *repo.Store
	Queue     queue.Queue
	Blobs     blob.Bucket
	Bus       *cqrs.Bus
	Directory *directory.Directory
	Catalog   *access.Catalog
	Roles     *access.Roles
	Trail     *trail.Trail
	Seals     *seal.Ring // seals what the store must not show

	cfg     config.Config
	deps    Deps
	secret  secret
	since   time.Time // of Open
	alone   bool      // no other process has this store and this queue
	owner   string    // see Owner
	created func(ctx context.Context, stream string) (time.Time, error)
	streams []queue.Stream
	closers []func(context.Context) error // in the order of opening
	carry   []lifecycle.Component         // relay and trail
}

// Open opens everything that the configuration names. Nothing is carried before
// the components run. Close it where they never do.
func Open(ctx context.Context, cfg config.Config, deps Deps) (_ *Node, err error) {
	n := &Node{cfg: cfg, deps: deps, since: time.Now(), owner: repo.RandomName()}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the folder data_dir=%s cannot be made", cfg.DataDir)
	}
	if n.secret, err = readSecret(n.file(cfg.SecretFile, "secret.key")); err != nil {
		return nil, err
	}
	if n.Seals, err = readSeals(n.file(cfg.SealFile, "seal.key")); err != nil {
		return nil, err
	}
	if n.Catalog, err = access.NewCatalog(append(admin.Permissions(), deps.Permissions...)...); err != nil {
		return nil, err
	}
	if n.Roles, err = access.NewRoles(n.Catalog); err != nil {
		return nil, err
	}
	for _, open := range []func(context.Context) error{n.openStore, n.openQueue, n.openBlobs, n.openBus, n.openRelay, n.openTrail, n.openWebhooks} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Close gives back what was opened, the latest first.
func (n *Node) Close(ctx context.Context) error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i](ctx))
	}
	n.closers = nil
	return errors.Join(errs...)
}

// file returns where a file is that has a place of its own in data_dir.
func (n *Node) file(configured, name string) string {
	if configured != "" {
		return configured
	}
	return filepath.Join(n.cfg.DataDir, name)
}

// Components returns the node's parts of a program, in the order in which they
// start. The first ends last, and closes everything.
func (n *Node) Components() []lifecycle.Component {
	base := lifecycle.Component{Name: "stores", Start: n.start, Run: n.sweep, Stop: n.Close}
	return append([]lifecycle.Component{base, {Name: "streams", Run: n.mend}}, n.carry...)
}

// start brings the store and the queue into the form that the program needs.
func (n *Node) start(ctx context.Context) error {
	schemas := append(admin.Schemas(), repo.LeaseSchema(), idempotency.Schema())
	if err := n.Store.Driver().Migrate(ctx, append(schemas, n.deps.Schemas...)); err != nil {
		return err
	}
	if err := n.Directory.EnsureTenant(ctx, access.DefaultTenant, "Default"); err != nil {
		return err
	}
	return n.Queue.Ensure(ctx, n.streams...)
}

func (n *Node) openBus(context.Context) (err error) {
	n.Directory = directory.New(n.Store, n.Pseudonym())
	cfg := cqrs.Config{Origin: origin, AuditKey: n.secret.derive("audit commitments"), Metrics: n.deps.Metrics, Log: n.deps.Log}
	cfg.Tracer = n.tracer("sluice/bus")
	n.Bus, err = cqrs.NewBus(n.Store, cfg)
	return err
}

// Reservations returns where Idempotency-Keys are kept.
func (n *Node) Reservations() *idempotency.Repository {
	r := idempotency.NewRepository(n.Store)
	if n.alone {
		return r.Alone(n.since)
	}
	return r
}

// Owner names this process where leases are taken. One that is alone has the
// same name each time: after a crash it need not wait for its own leases to end.
func (n *Node) Owner() string { return n.owner }

// FingerprintKey returns the secret that fingerprints of requests are sealed with.
func (n *Node) FingerprintKey() []byte { return n.secret.derive("fingerprints") }

// AddressKey returns the secret that addresses of this server are signed with.
func (n *Node) AddressKey() []byte { return n.secret.derive("addresses") }

// Pseudonym returns the secret that people's ids are made with.
func (n *Node) Pseudonym() []byte { return n.secret.derive("pseudonyms") }

// origin finds out where a command comes from by its request's context.
func origin(ctx context.Context) cqrs.Origin {
	o := cqrs.Origin{Request: telemetry.RequestID(ctx), TraceParent: traceParent(ctx)}
	o.Correlation = o.Request
	if id, err := uuid.Parse(web.OperationID(ctx)); err == nil {
		o.Operation = id
	}
	return o
}

// traceParent returns the W3C Trace Context of the span that ctx is in.
func traceParent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// tracer returns a tracer, nil where nothing is traced.
func (n *Node) tracer(name string) trace.Tracer {
	if !n.deps.Tracing.Enabled() {
		return nil
	}
	return n.deps.Tracing.Tracer(name)
}

// useStore puts the observers around a driver.
func (n *Node) useStore(driver repo.Driver) error {
	n.closers = append(n.closers, func(context.Context) error { return driver.Close() })
	observed, err := tracerepo.New(driver, n.tracer("sluice/store"), n.deps.Metrics)
	if err != nil {
		return err
	}
	n.Store = repo.New(observed, repo.Config{})
	n.deps.Health.AddCheck("store", driver.Ping)
	return nil
}

// useQueue puts the observers around a queue.
func (n *Node) useQueue(q queue.Queue) {
	n.Queue = traced.New(q, n.tracer("sluice/queue"))
	n.deps.Health.AddCheck("queue", q.Healthy)
}
