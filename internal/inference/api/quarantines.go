package api

import (
	"context"
	"net/http"

	"sluice/internal/inference/job"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// QuarantineView is what is shown of a quarantine.
type QuarantineView struct {
	resource.Meta
	Model   string      `json:"model"`
	Number  string      `json:"model_version"`
	Active  bool        `json:"active" doc:"Durable predictions of the version are not run. If not, workers have died, and no prediction has succeeded since."`
	Since   *api.Time   `json:"quarantined_at,omitempty"`
	Deaths  int         `json:"deaths" doc:"Of workers that ran the version, since a prediction of it has last succeeded."`
	DeathAt []*api.Time `json:"deaths_at" doc:"When they gave their last sign of life."`
}

func viewQuarantine(q *job.Quarantine, m resource.Meta) QuarantineView {
	v := QuarantineView{Meta: m, Model: q.Model, Number: q.Version, Active: q.Active, Since: at(q.Since), Deaths: len(q.Deaths), DeathAt: []*api.Time{}}
	for _, d := range q.Deaths {
		v.DeathAt = append(v.DeathAt, at(d.At))
	}
	return v
}

const quarantineObject = "quarantine"

// quarantines adds the operations on quarantines.
func (a *API) quarantines(v *api.API) {
	resource.Resource[job.QuarantineID, job.Quarantine, struct{}, struct{}, QuarantineView]{
		Kind: job.Quarantines, Singular: quarantineObject, Platform: true, Read: job.ReadQuarantines, Write: job.Release,
		Description: "A version of a model that workers died of, again and again, is in quarantine: durable predictions of it are neither accepted nor run.",
		View:        viewQuarantine,
	}.Register(v, a.bus)
	release := api.Operation{ID: "release-quarantine", Method: http.MethodPost, Path: "/quarantines/{id}/release", Summary: "Release: quarantine", Tags: []string{job.Quarantines.Name},
		Description: "Has the version's predictions accepted and run again. Deaths of workers are counted from none.", Permission: job.Release, Idempotency: api.KeyOptional}
	type released struct {
		ETag string `header:"ETag"`
		Body QuarantineView
	}
	api.Register(v, release, func(ctx context.Context, in *idIn) (*released, error) {
		q, err := cqrs.Send(ctx, a.bus, job.Free{ID: job.QuarantineID(in.ID)})
		if err != nil {
			return nil, err
		}
		return &released{api.ETag(q.Root.Version), viewQuarantine(q, resource.MetaOf(quarantineObject, &q.Root))}, nil
	})
}
