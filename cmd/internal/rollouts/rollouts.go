// Package rollouts has a process route requests as aliases, experiments and
// releases say.
package rollouts

import (
	"context"
	"log/slog"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/models"
	"sluice/cmd/internal/node"
	"sluice/internal/inference/record"
	"sluice/internal/inference/release"
	"sluice/internal/inference/rollout"
	"sluice/internal/inference/rollout/rollouthttp"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/repo"
)

// Need adds to a node what rollouts need of it.
func Need(d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, rollout.Aliases.Schema(), rollout.Experiments.Schema(), release.Releases.Schema(), rollout.TallyKind.Schema())
	d.Expiring = append(d.Expiring, rollout.TallyKind.Name)
	return d
}

// Rollouts is a process's part in rollouts.
type Rollouts struct {
	Service *rollout.Service

	counted  rollout.Counted
	records  record.Store // nil for none
	reader   *rollout.Reader
	node     *node.Node
	log      *slog.Logger
	follower *rollout.Follower
	driver   *rollout.Driver
}

// New returns the part of a process that serves models, and registers the commands
// and queries of rollouts with its bus. records is its prediction log, nil for none.
// Call it before the store is used.
func New(n *node.Node, m *models.Models, records record.Store, metrics prometheus.Registerer, log *slog.Logger) (*Rollouts, error) {
	versions := catalog{m.Server}
	rollout.Register(n.Bus, versions)
	r := &Rollouts{Service: rollout.NewService(n.Bus, versions), counted: rollout.Counted{Store: n.Store}, records: records, node: n, log: log}
	r.Service.Unlogged = records == nil
	turn := rollout.TurnConfig{Owner: n.Owner(), Log: log, Metrics: metrics}
	var err error
	if r.follower, err = rollout.NewFollower(n.Store, n.Queue, m.Server, rollout.FollowerConfig{Log: log, Metrics: metrics}); err != nil {
		return nil, err
	}
	if records != nil {
		if r.reader, err = rollout.NewReader(n.Store, records, turn); err != nil {
			return nil, err
		}
	}
	r.driver, err = rollout.NewDriver(n.Store, n.Bus, r.counted, rollout.DriverConfig{TurnConfig: turn, Allocator: rollout.NewAllocator(n.Bus, r.counted)})
	return r, err
}

// Evidence returns what is shown of arms.
func (r *Rollouts) Evidence() rollouthttp.Evidence {
	e := rollouthttp.Evidence{Counted: r.counted}
	if r.records != nil {
		e.Log = r.records
	}
	return e
}

// Ranges returns what the scores of a label can be in an experiment or release.
func (r *Rollouts) Ranges(ctx context.Context, experiment, label string) ([][2]float64, error) {
	return rollout.Ranges(ctx, r.node.Store.Read(repo.Scope{}), experiment, label)
}

// Aliases returns what has the versions that a model's aliases point to, as this process
// routes by them. It fails where who asks may not see them.
func (r *Rollouts) Aliases(ctx context.Context) (of func(model string) map[string]int64, err error) {
	if err := access.Check(ctx, rollout.Read); err != nil {
		return nil, err
	}
	return r.follower.Aliases, nil
}

// Component follows the store, writes what was counted of releases, and drives them
// where no other process does. Start it before the models: they are never served in
// another way than it says.
func (r *Rollouts) Component() lifecycle.Component {
	return lifecycle.Component{Name: "rollouts", Start: r.follower.Refresh, Run: func(ctx context.Context) error {
		var beside sync.WaitGroup
		beside.Go(func() { r.follower.Tallies().Write(ctx, r.node.Store, repo.RandomName(), r.log) })
		beside.Go(func() { r.driver.Run(ctx) })
		if r.reader != nil {
			beside.Go(func() { r.reader.Run(ctx) })
		}
		defer beside.Wait()
		return r.follower.Run(ctx)
	}}
}

// catalog has the versions that this process serves.
type catalog struct{ models *serve.Server }

// Find implements rollout.Catalog.
func (c catalog) Find(model, version string) (rollout.Artifact, error) {
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != version {
		if _, err := c.models.Versions(model); err != nil {
			return rollout.Artifact{}, err
		}
		return rollout.Artifact{}, fault.New(fault.NotFound, "%q is no number of a version", fault.Clip(version, 32)).WithCode("version_not_found")
	}
	v, err := c.models.Lookup(model, version)
	if err != nil {
		return rollout.Artifact{}, err
	}
	return rollout.Artifact{Version: v.Number, Digest: v.SHA256, Signature: v.Signature, Steps: v.Stateful() || v.Generative(), Graph: v.Graph()}, nil
}
