package api

import (
	"context"
	"net/http"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/spare"
	"sluice/internal/platform/web/api"
)

// readModels is the permission to see which models are served, declared with them.
const readModels access.Permission = "models:read"

type costsIn struct {
	Model string `path:"model" maxLength:"300" doc:"The model: name, name:version or name@label."`
}

type costsOut struct{ Body Costs }

// Costs is what was measured of a model's run times on the node that answers.
type Costs struct {
	Object    string  `json:"object"`
	Model     string  `json:"model"`
	Version   string  `json:"version"`
	Digest    string  `json:"artifact_digest,omitempty" doc:"SHA-256 of the model's file."`
	MaxRows   int     `json:"max_rows" doc:"The most rows in one run."`
	SLO       float64 `json:"slo_ms" doc:"Time within which a request should be answered."`
	Executors int     `json:"executors" doc:"The most runs at a time."`
	Cores     int     `json:"cores" doc:"Of the node, as far as it may use them."`
	Spread    float64 `json:"spread" doc:"95th percentile of run times over those below."`
	Costs     []Cost  `json:"costs" doc:"Empty until something was run."`
}

// Cost is what a run takes.
type Cost struct {
	Rows   int     `json:"rows"`
	Beside int     `json:"beside" doc:"Other runs in progress."`
	RunMS  float64 `json:"run_ms"`
}

func (a *API) costs(_ context.Context, in *costsIn) (*costsOut, error) {
	name, version := target(in.Model)
	v, err := a.models.Lookup(name, version)
	if err != nil {
		return nil, err
	}
	points, spread := v.Costs()
	out := Costs{Object: "model_costs", Model: v.Name, Version: v.Text, Digest: v.SHA256, MaxRows: max(v.MaxRows, 1), SLO: float64(v.Config.SLO) / float64(time.Millisecond),
		Executors: v.Config.Execution.Runs(spare.Cores()), Cores: spare.Cores(), Spread: spread, Costs: make([]Cost, len(points))}
	if !v.CrossRequest {
		out.MaxRows = 1
	}
	for i, p := range points {
		out.Costs[i] = Cost{p.Rows, p.Beside, float64(p.Run) / float64(time.Millisecond)}
	}
	return &costsOut{out}, nil
}

// registerCosts adds the run times of models.
func (a *API) registerCosts(v *api.API) {
	op := api.Operation{ID: "get-model-costs", Method: http.MethodGet, Path: "/models/{model}/costs", Summary: "What runs of a model take", Tags: []string{"models"}, Permission: readModels,
		Description: "The batcher's table of run times by rows and by other runs in progress: from the sweep when the model was loaded, and from every run since, on the node that answers. `sluice plan` works with it."}
	api.Register(v, op, a.costs)
}
