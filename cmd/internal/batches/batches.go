// Package batches runs batches in a process, on its own models, and has those that
// are due announced again.
package batches

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spare"
)

// Need adds to a node what batches need of it.
func Need(cfg config.Config, d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, job.Batches.Schema())
	d.Streams = append(d.Streams, job.Stream(cfg.NATS.Replicas, node.Retain))
	d.Expiring = append(d.Expiring, job.Batches.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: job.Folder, Owned: job.Owned})
	return d
}

// Batches is a process's part in batches.
type Batches struct {
	Options   ingest.Options
	Forecasts *run.Forecasts

	node        *node.Node
	cfg         run.Config
	worker      *run.Worker // nil where this process runs none
	concurrency int
}

// New returns the part of a process, and registers the commands and queries of
// batches with its bus. The predictor may be nil where it runs none. What they compute takes turns
// on what requests leave of cpu, if that is not nil.
func New(cfg config.Config, n *node.Node, p *Predictor, cpu *spare.Processors, registry prometheus.Registerer, log *slog.Logger) (*Batches, error) {
	metrics, err := run.NewMetrics(registry)
	if err != nil {
		return nil, err
	}
	settings := run.Config{
		Job:     job.Config{Timing: job.Timing{Keep: cfg.Batch.Keep, Lease: cfg.Batch.Lease}, MaxOpen: cfg.Batch.MaxOpen, Used: metered},
		MaxRows: int64(cfg.Batch.MaxRows), Options: ingest.Options{Inflation: ingest.Inflation{Max: int64(cfg.Batch.MaxInflated)}},
		Drain: max(cfg.Shutdown.Grace/2, time.Millisecond), Forecasts: run.NewForecasts(), CPU: cpu, Metrics: metrics, Log: log,
	}
	job.Register(n.Bus, settings.Job)
	b := &Batches{Options: settings.Options, Forecasts: settings.Forecasts, node: n, cfg: settings, concurrency: cfg.Batch.Concurrency}
	if p != nil && b.concurrency > 0 {
		b.worker = run.NewWorker(n.Store, *p, n.Blobs, settings)
	}
	return b, nil
}

// metered has the usage of a batch's rows counted, once, with the commit that counts
// the rows, and the batch itself with its end.
func metered(tx *repo.Tx, b *job.Batch, u job.Used, ended bool) error {
	e := usage.Entry{What: usage.What{Model: b.Model, Version: b.ModelVersion, Mode: usage.Batch},
		Amount: usage.Amount{Rows: u.Rows, ComputeUS: u.ComputeUS, InputBytes: u.InputBytes, OutputBytes: u.OutputBytes}}
	if ended {
		e.Requests = 1
		switch b.Status {
		case job.Completed:
			e.Succeeded = 1
		case job.Failed:
			e.Failed = 1
		case job.Cancelled:
			e.Cancelled = 1
		default:
			e.Expired = 1
		}
	}
	return usage.Publish(tx, repo.Key{Kind: job.Batches.Name, ID: string(b.ID)}, e)
}

// Component takes work from the queue until the drain, and says again what is due.
func (b *Batches) Component() lifecycle.Component {
	taking, drain := context.WithCancel(context.Background())
	done := make(chan struct{})
	return lifecycle.Component{
		Name: "batches",
		Run: func(ctx context.Context) error {
			defer close(done)
			defer context.AfterFunc(ctx, drain)()
			var beside sync.WaitGroup
			beside.Go(func() { b.remind(taking) })
			defer beside.Wait()
			defer drain()
			if b.worker == nil {
				<-taking.Done()
				return nil
			}
			return b.worker.Run(taking, b.node.Queue, b.concurrency)
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

// interval is how often what is due is looked for.
const interval = 5 * time.Second

// remind says again what is due of every tenant until ctx ends.
func (b *Batches) remind(ctx context.Context) {
	b.node.Rounds(ctx, "batches-remind", interval, func(ctx context.Context, tenant string) error {
		_, err := job.Remind(ctx, b.node.Store, tenant, b.cfg.Job, max(b.concurrency, 1))
		return err
	})
}
