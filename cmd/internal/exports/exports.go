// Package exports runs exports in a process and has those that are due announced
// again, and has the datasets that can be exported: what the store keeps of tenants,
// as tables.
package exports

import (
	"context"
	"log/slog"
	"sync"
	"time"
	_ "time/tzdata" // exports tell times in zones that the host may not have

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/internal/batch/export"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
)

// Need adds to a node what exports need of it.
func Need(cfg config.Config, d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, export.Exports.Schema())
	d.Streams = append(d.Streams, export.Stream(cfg.NATS.Replicas, node.Retain))
	d.Expiring = append(d.Expiring, export.Exports.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: export.Folder, Owned: export.Owned})
	return d
}

// Exports is a process's part in exports.
type Exports struct {
	*export.Service

	node    *node.Node
	workers int
}

// New returns the part of a process, and registers the commands and queries of
// exports with its bus.
func New(cfg config.Config, n *node.Node, metrics prometheus.Registerer, log *slog.Logger) (*Exports, error) {
	c := cfg.Export
	s, err := export.New(n.Store, n.Bus, n.Blobs, Datasets(n.Store), export.Config{
		Keep: c.Keep, PartSize: int64(c.PartSize), MaxActive: c.MaxActive, MaxExports: c.MaxExports, Log: log, Metrics: metrics,
	})
	return &Exports{Service: s, node: n, workers: c.Workers}, err
}

// interval is how often exports that are due are looked for.
const interval = 5 * time.Second

// Component takes exports from the queue until ctx ends, and looks after those of
// all tenants.
func (e *Exports) Component() lifecycle.Component {
	return lifecycle.Component{Name: "exports", Run: func(ctx context.Context) error {
		var beside sync.WaitGroup
		beside.Go(func() { e.node.Rounds(ctx, "exports-remind", interval, e.Remind) })
		defer beside.Wait()
		if e.workers == 0 {
			<-ctx.Done()
			return nil
		}
		return e.Run(ctx, e.node.Queue, e.workers)
	}}
}
