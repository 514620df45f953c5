// Package evaluations runs evaluations in a process, on its own models, and has those that
// are due announced again.
package evaluations

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/cmd/internal/records"
	"sluice/internal/batch/api"
	"sluice/internal/batch/ingest"
	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/record"
	"sluice/internal/inference/record/recordhttp"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/upload"
)

// Need adds to a node what evaluations need of it.
func Need(cfg config.Config, d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, evaluation.Evaluations.Schema())
	d.Streams = append(d.Streams, evaluation.Stream(cfg.NATS.Replicas, node.Retain))
	d.Expiring = append(d.Expiring, evaluation.Evaluations.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: evaluation.Folder, Owned: evaluation.Owned})
	return d
}

// Evaluations is a process's part in evaluations.
type Evaluations struct {
	*evaluation.Service

	node    *node.Node
	workers int
}

// New returns the part of a process, and registers the commands and queries of evaluations
// with its bus. Models are nil where it serves none, which leaves all evaluations to others, and
// so are the prediction log where none is kept, and the uploads where it takes none.
func New(cfg config.Config, n *node.Node, m serve.Models, predictions record.Store, uploads *upload.Service, options ingest.Options, metrics prometheus.Registerer, log *slog.Logger) (*Evaluations, error) {
	c := cfg.Evaluation
	e := &Evaluations{node: n, workers: c.Workers}
	var versions evaluation.Models
	if m != nil {
		versions = models{m}
	} else {
		e.workers = 0
	}
	var logged evaluation.Log
	if s := records.Shared(cfg, predictions); s != nil {
		logged = s
	}
	var err error
	e.Service, err = evaluation.New(n.Store, n.Bus, n.Blobs, versions, logged, files{uploads, n.Blobs, options, api.NewTurns()}, evaluation.Config{
		Keep: c.Keep, MaxActive: c.MaxActive, MaxEvaluations: c.MaxEvaluations, MaxRows: int64(c.MaxRows), Content: recordhttp.ReadContent, Log: log, Metrics: metrics,
	})
	return e, err
}

// interval is how often evaluations that are due are looked for.
const interval = 5 * time.Second

// Component takes evaluations from the queue until ctx ends, and looks after those of all
// tenants.
func (e *Evaluations) Component() lifecycle.Component {
	return lifecycle.Component{Name: "evaluations", Run: func(ctx context.Context) error {
		var beside sync.WaitGroup
		beside.Go(func() { e.node.Rounds(ctx, "evaluations-remind", interval, e.Remind) })
		defer beside.Wait()
		if e.workers == 0 {
			<-ctx.Done()
			return nil
		}
		return e.Run(ctx, e.node.Queue, e.workers)
	}}
}
