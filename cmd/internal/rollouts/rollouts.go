// Package rollouts has a process route requests as aliases, experiments and
// releases say.
package rollouts

import (
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/models"
	"sluice/cmd/internal/node"
	"sluice/internal/inference/rollout"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
)

// Need adds to a node what rollouts need of it.
func Need(d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, rollout.Aliases.Schema())
	return d
}

// Rollouts is a process's part in rollouts.
type Rollouts struct {
	follower *rollout.Follower
}

// New returns the part of a process that serves models, and registers the commands
// and queries of rollouts with its bus. Call it before the store is used.
func New(n *node.Node, m *models.Models, metrics prometheus.Registerer, log *slog.Logger) (*Rollouts, error) {
	rollout.Register(n.Bus, catalog{m.Server})
	f, err := rollout.NewFollower(n.Store, n.Queue, m.Server, rollout.FollowerConfig{Log: log, Metrics: metrics})
	return &Rollouts{f}, err
}

// Component follows the store. Start it before the models: they are never served
// in another way than it says.
func (r *Rollouts) Component() lifecycle.Component {
	return lifecycle.Component{Name: "rollouts", Start: r.follower.Refresh, Run: r.follower.Run}
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
	return rollout.Artifact{Version: v.Number, Digest: v.SHA256, Signature: v.Signature, Steps: v.Stateful() || v.Generative()}, nil
}
