// Package jobs runs durable predictions in a process, on its own models, and has
// those that are due announced again. A process that is configured to run none
// only does the latter.
package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/models"
	"sluice/cmd/internal/node"
	"sluice/internal/inference/job"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/queue"
)

// Need adds to a node what durable predictions need of it.
func Need(cfg config.Config, d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, job.Predictions.Schema(), job.Quarantines.Schema(), usage.Totals.Schema())
	d.Streams = append(d.Streams, job.Stream(cfg.NATS.Replicas, node.Retain), usage.Stream(cfg.NATS.Replicas, node.Retain))
	d.Expiring = append(d.Expiring, job.Predictions.Name, usage.Totals.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: job.Folder, Owned: job.Owned})
	return d
}

// Jobs is a process's part in durable predictions.
type Jobs struct {
	Payloads job.Payloads
	Ward     *job.Ward
	Overdue  *job.Reconciler // ends what its deadline has overtaken

	node        *node.Node
	log         *slog.Logger
	worker      *job.Worker // nil where this process runs none
	concurrency int
	folder      *usage.Folder
	window      *job.Window
}

// New returns the part of a process, and registers the commands and queries of
// predictions with its bus. The models may be nil where it runs none; what it runs
// shares the memory with requests. How many predictions of a tenant are queued says
// who has them submitted; nil where nobody does. Call it before the store is used.
func New(cfg config.Config, n *node.Node, m *models.Models, memory *budget.Budget, queued func(tenant string) int, metrics prometheus.Registerer, log *slog.Logger) (*Jobs, error) {
	settings := settings(cfg)
	settings.Queued = queued
	job.Register(n.Bus, settings)
	usage.Register(n.Bus)
	ward, err := job.NewWard(n.Store, settings, metrics, log)
	if err != nil {
		return nil, err
	}
	j := &Jobs{Payloads: job.NewPayloads(n.Blobs), Ward: ward, node: n, log: log, concurrency: cfg.Job.Concurrency, Overdue: job.NewReconciler(n.Store, settings), folder: usage.NewFolder(n.Store), window: job.NewWindow(n.Store, settings, log)}
	if j.concurrency > 0 {
		j.worker = job.NewWorker(n.Store, predictor{m.Public, memory}, j.Payloads, ward, settings, log)
	}
	return j, nil
}

func settings(cfg config.Config) job.Config {
	c := cfg.Job
	deaths := c.Quarantine
	if deaths == 0 {
		deaths = -1
	}
	return job.Config{Timing: job.Timing{Hold: c.MaxHold}, MaxRun: c.MaxRun, MaxStall: c.MaxStall, Deaths: deaths, Drain: patience(cfg.Shutdown.Grace)}
}

// patience is how long running predictions may take to end in a shutdown: a part
// of the grace is left for giving back those that do not.
func patience(grace time.Duration) time.Duration {
	return max(grace-min(grace/4, 5*time.Second), time.Millisecond)
}

// Usage adds what predictions have used to the totals of their tenants.
func (j *Jobs) Usage() lifecycle.Component {
	return lifecycle.Component{Name: "usage", Run: func(ctx context.Context) error { return j.folder.Run(ctx, j.node.Queue) }}
}

// Component takes work from the queue until the drain, and says again what is due.
func (j *Jobs) Component() lifecycle.Component {
	taking, drain := context.WithCancel(context.Background())
	done := make(chan struct{})
	return lifecycle.Component{
		Name: "jobs",
		Run: func(ctx context.Context) error {
			defer close(done)
			defer context.AfterFunc(ctx, drain)()
			if err := j.Ward.Refresh(ctx); err != nil { // before anything is run
				return err
			}
			var beside sync.WaitGroup
			beside.Go(func() { j.reconcile(taking) })
			beside.Go(func() { j.Ward.Run(taking) })
			beside.Go(func() { _ = j.window.Run(taking) }) // ends with taking only
			defer beside.Wait()
			defer drain()
			return j.run(taking, j.node.Queue)
		},
		Drain: func(ctx context.Context) error {
			drain()
			select {
			case <-done:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
}

// run takes work until ctx ends, if this process runs any.
func (j *Jobs) run(ctx context.Context, q queue.Consuming) error {
	if j.worker == nil {
		<-ctx.Done()
		return nil
	}
	return j.worker.Run(ctx, q, j.concurrency)
}

// reconcileInterval is how often what is due is looked for.
const reconcileInterval = 10 * time.Second

// reconcile says again what is due of every tenant until ctx ends.
func (j *Jobs) reconcile(ctx context.Context) {
	j.node.Rounds(ctx, "predictions-reconcile", reconcileInterval, func(ctx context.Context, tenant string) error {
		n, err := j.Overdue.Tenant(ctx, tenant)
		j.window.Touch(tenant) // whoever left something in the store may have ended
		if n > 0 {
			j.log.InfoContext(ctx, "due predictions were announced again", "predictions", n)
		}
		return err
	})
}
