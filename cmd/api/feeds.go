package main

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"sluice/internal/batch/export"
	batch "sluice/internal/batch/job"
	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedgrpc"
	"sluice/internal/platform/feed/feedhttp"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web"
)

// eventsRead is the permission to see what happens in one's tenant.
const eventsRead access.Permission = "events:read"

func eventPermissions() []access.Declaration {
	return []access.Declaration{{Permission: eventsRead, About: "follow the events of the tenant",
		Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}}}
}

// newHub returns the hub of all events.
func newHub(a *app) (*feed.Hub, error) {
	return feed.NewHub(a.node.Events(), feed.Config{Log: a.log, Metrics: a.registry, Known: a.known, End: map[string][]string{
		job.Predictions.Name:        {"prediction.succeeded", "prediction.failed", "prediction.cancelled", "prediction.expired"},
		batch.Batches.Name:          {"batch.completed", "batch.failed", "batch.cancelled", "batch.expired"},
		export.Exports.Name:         {"export.completed", "export.failed", "export.cancelled"},
		evaluation.Evaluations.Name: {"evaluation.completed", "evaluation.failed", "evaluation.cancelled"},
	}})
}

// eventLabels are what feeds can be narrowed by beside kind, id and type: the
// model of a prediction, a batch or an evaluation.
func eventLabels(m *repo.Message) map[string]string {
	if m.Kind != job.Predictions.Name && m.Kind != batch.Batches.Name && m.Kind != evaluation.Evaluations.Name {
		return nil
	}
	var c struct {
		Model string `json:"model"`
	}
	if json.Unmarshal(m.Data, &c) != nil || c.Model == "" {
		return nil
	}
	return map[string]string{"model": c.Model}
}

// feedComponent tells consumers to leave before the server does.
func feedComponent(h *feed.Hub) lifecycle.Component {
	return lifecycle.Component{Name: "feeds", Drain: h.Drain, Stop: func(context.Context) error { h.Close(); return nil }}
}

// addFeeds adds the streams of events: plain routes, for nothing may compress or
// time them out.
func addFeeds(e *echo.Echo, routes *web.Routes, a *app) {
	h := feedHandler(a)
	stream := func(target func(c echo.Context) feedhttp.Target) echo.HandlerFunc {
		return func(c echo.Context) error { return h.Serve(c.Response(), c.Request(), target(c)) }
	}
	events := routes.On(e, web.Always(eventsRead))
	events.Add(http.MethodGet, "/v1/events", func(c echo.Context) error { return h.List(c.Response(), c.Request(), feedhttp.Target{}) })
	events.Add(http.MethodGet, "/v1/events/stream", stream(func(echo.Context) feedhttp.Target { return feedhttp.Target{Open: true} }))
	of := func(kind string) echo.HandlerFunc {
		serve := stream(func(c echo.Context) feedhttp.Target {
			return feedhttp.Target{Kind: kind, Subject: c.Param("id"), Oldest: true}
		})
		return func(c echo.Context) error {
			if err := a.known(c.Request().Context(), kind, c.Param("id")); err != nil {
				return err
			}
			return serve(c)
		}
	}
	routes.On(e, web.Always(batch.Read)).Add(http.MethodGet, "/v1/batches/:id/events", of(batch.Batches.Name))
	predictions := routes.On(e, web.Always(job.Read))
	predictions.Add(http.MethodGet, "/v1/predictions/:id/events", of(job.Predictions.Name))
	ofModel := stream(func(c echo.Context) feedhttp.Target {
		return feedhttp.Target{Kind: job.Predictions.Name, Labels: map[string]string{"model": c.Param("model")}}
	})
	predictions.Add(http.MethodGet, "/v1/models/:model/predictions/events", func(c echo.Context) error {
		if err := a.hasModel(c.Param("model")); err != nil {
			return err
		}
		return ofModel(c)
	})
}

// known fails with fault.NotFound for a thing that is not there: a misspelt id would be a
// stream that stays empty for ever. Whoever may follow events but not read the thing is
// not told whether it is there.
func (a *app) known(ctx context.Context, kind, id string) error {
	p, ok := access.From(ctx)
	may := func(read access.Permission) bool { return ok && p.Can(read) }
	var err error
	switch {
	case kind == job.Predictions.Name && may(job.Read):
		_, err = cqrs.Ask(ctx, a.node.Bus, job.Find{ID: job.ID(id)})
	case kind == batch.Batches.Name && may(batch.Read):
		_, err = cqrs.Ask(ctx, a.node.Bus, batch.Find{ID: batch.ID(id)})
	case kind == export.Exports.Name && may(export.Read):
		_, err = cqrs.Ask(ctx, a.node.Bus, export.Find{ID: export.ID(id)})
	case kind == evaluation.Evaluations.Name && may(evaluation.Read):
		_, err = a.evaluations.Find(ctx, evaluation.ID(id))
	}
	return err
}

// hasModel fails with fault.NotFound where there is no model of the name, which is what
// events are labelled with. The model need not be ready: feeds outlast that.
func (a *app) hasModel(name string) error {
	if _, err := a.models.Public.Versions(name); fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// feedHandler serves feeds over HTTP.
func feedHandler(a *app) *feedhttp.Handler {
	return feedhttp.New(a.hub, feedhttp.Config{Origins: a.cfg.HTTP.CORSOrigins, Log: a.log})
}

// addStreams adds the streams of inference, which are plain routes for the same
// reasons.
func addStreams(e *echo.Echo, routes *web.Routes, a *app) {
	r := routes.On(e, web.Always(job.Run))
	r.Add(http.MethodGet, "/v1/models/:model/stream", func(c echo.Context) error {
		return a.api.Socket(c.Response(), c.Request(), c.Param("model"))
	})
	r.Add(http.MethodGet, "/v1/streams/:id/events", func(c echo.Context) error {
		return a.api.Resume(c.Response(), c.Request(), c.Param("id"))
	})
}

// streamComponent tells the clients of streams to leave before the server does.
func streamComponent(a *app) lifecycle.Component {
	return lifecycle.Component{Name: "streams", Drain: a.api.Drain, Stop: func(context.Context) error { a.api.Close(); return nil }}
}

// feedService is the same streams over gRPC.
func feedService(a *app) *feedgrpc.Service {
	return feedgrpc.New(a.hub, feedgrpc.Config{})
}
