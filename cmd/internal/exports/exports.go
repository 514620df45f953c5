// Package exports runs exports in a process and has those that are due announced
// again, and has the datasets that can be exported: what the store keeps of tenants,
// as tables.
package exports

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
	_ "time/tzdata" // exports tell times in zones that the host may not have

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/cmd/internal/records"
	"sluice/internal/batch/export"
	"sluice/internal/batch/export/schedule"
	"sluice/internal/batch/table/sorter"
	"sluice/internal/inference/record"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
)

// Need adds to a node what exports need of it.
func Need(cfg config.Config, d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, export.Exports.Schema(), schedule.Schedules.Schema())
	d.Streams = append(d.Streams, export.Stream(cfg.NATS.Replicas, node.Retain))
	d.Expiring = append(d.Expiring, export.Exports.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: export.Folder, Owned: export.Owned})
	return d
}

// Exports is a process's part in exports.
type Exports struct {
	*export.Service
	Schedules *schedule.Service // nil where this process makes no exports of schedules

	node    *node.Node
	workers int
}

// New returns the part of a process, and registers the commands and queries of
// exports with its bus. The prediction log is nil where none is kept.
func New(cfg config.Config, n *node.Node, predictions record.Store, metrics prometheus.Registerer, log *slog.Logger) (*Exports, error) {
	c := cfg.Export
	s, err := export.New(n.Store, n.Bus, n.Blobs, Datasets(n.Store, records.Shared(cfg, predictions)), export.Config{
		Keep: c.Keep, PartSize: int64(c.PartSize), MaxActive: c.MaxActive, MaxExports: c.MaxExports, Log: log, Metrics: metrics,
		Sort: sorter.Config{Disk: int64(c.MaxSort), Dir: filepath.Join(cfg.DataDir, "scratch")},
	})
	return &Exports{Service: s, node: n, workers: c.Workers}, err
}

// Schedule has this process look after schedules as well, which takes a catalogue of
// all permissions: owners are asked for what they may.
func (e *Exports) Schedule(cfg config.Config, metrics prometheus.Registerer, log *slog.Logger) (err error) {
	e.Schedules, err = schedule.New(e.node.Store, e.node.Bus, e.Service, owners{e.node, !cfg.Authenticated()}, metrics, log)
	return err
}

// interval is how often exports that are due are looked for.
const interval = 5 * time.Second

// Component takes exports from the queue until ctx ends, and looks after those of
// all tenants.
func (e *Exports) Component() lifecycle.Component {
	return lifecycle.Component{Name: "exports", Run: func(ctx context.Context) error {
		var beside sync.WaitGroup
		beside.Go(func() { e.node.Rounds(ctx, "exports-remind", interval, e.Remind) })
		if e.Schedules != nil {
			beside.Go(func() { e.node.Rounds(ctx, "exports-schedule", interval, e.Schedules.Look) })
		}
		defer beside.Wait()
		if e.workers == 0 {
			<-ctx.Done()
			return nil
		}
		return e.Run(ctx, e.node.Queue, e.workers)
	}}
}
