package api

import (
	"context"
	"net/http"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/platform/access"
)

// asked is what experiments see of a durable prediction.
type asked struct {
	ctx    context.Context //nolint:containedctx // for as long as the arm is chosen
	header http.Header
}

// Value implements experiment.Request.
func (a *asked) Value(from experiment.Source, name string) string {
	if from == experiment.Tenant {
		if p, ok := access.From(a.ctx); ok {
			return p.Tenant
		}
		return ""
	}
	return oip.Value(a.ctx, a.header, from, name)
}

// arm returns the arm that an experiment gives a durable prediction to, if there is
// one: the prediction keeps it, whatever becomes of the experiment.
func (a *API) arm(ctx context.Context, model, version string, header http.Header) job.Arm {
	chosen, err := a.models.Choose(model, version, &asked{ctx, header})
	if err != nil || chosen.Split == nil {
		return job.Arm{}
	}
	return job.Arm{Experiment: chosen.Split.ID, Name: chosen.Split.Arms[chosen.Arm].Name, Version: chosen.Value.Text, ByRule: chosen.Reason == experiment.ByRule}
}
