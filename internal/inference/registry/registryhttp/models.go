package registryhttp

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/internal/inference/registry"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/web/api"
)

// Aliases returns what has the aliases of a model, with the numbers of the versions that
// they point to. It fails where who asks may not see them.
type Aliases func(ctx context.Context) (of func(model string) map[string]int64, err error)

// RegisteredModel is what is shown of a model that has versions in the registry.
type RegisteredModel struct {
	Object    string           `json:"object"`
	Name      string           `json:"name"`
	Versions  int              `json:"versions" doc:"How many the registry has; those that are deleted do not count."`
	Stages    map[string]int   `json:"stages" doc:"How many of them are in each stage."`
	Latest    LatestVersion    `json:"latest" doc:"The version with the greatest number."`
	Aliases   map[string]int64 `json:"aliases,omitempty" doc:"The numbers of the versions that the model's aliases point to, those of the folder of models too. Only for who may read aliases."`
	CreatedAt api.Time         `json:"created_at" doc:"When its first version was registered."`
	UpdatedAt api.Time         `json:"updated_at" doc:"When a version was last registered, changed, deleted or restored."`
	URLs      ModelURLs        `json:"urls"`
}

// LatestVersion is what a list of models shows of a version.
type LatestVersion struct {
	Number    int64             `json:"number"`
	Stage     string            `json:"stage" enum:"registered,validated,ready,rejected,archived"`
	Graph     bool              `json:"graph,omitempty" doc:"It is made of other models."`
	Digest    string            `json:"digest"`
	SHA256    string            `json:"sha256"`
	Labels    map[string]string `json:"labels"`
	CreatedAt api.Time          `json:"created_at"`
	URL       string            `json:"url"`
}

// ModelURLs are where more of a model is.
type ModelURLs struct {
	Self        string `json:"self"`
	Versions    string `json:"versions"`
	Aliases     string `json:"aliases"`
	Predictions string `json:"predictions"`
}

type modelIn struct {
	Model string `path:"model" maxLength:"255" doc:"The model's name."`
}

type modelOut struct{ Body RegisteredModel }

type modelsIn struct {
	api.PageQuery
	Search string `query:"search" maxLength:"255" doc:"A part of the name, in upper or lower case."`
	Prefix string `query:"prefix" maxLength:"255" doc:"What the name begins with, as it is written."`
	Stage  string `query:"stage" enum:"registered,validated,ready,rejected,archived" doc:"Of the latest version."`
	Label  string `query:"label" maxLength:"700" doc:"key:value, of the latest version."`
	Alias  string `query:"alias" maxLength:"63" doc:"An alias that the model has, such as champion."`
	From   string `query:"created_from" maxLength:"40" doc:"RFC 3339: when the first version was registered."`
	To     string `query:"created_to" maxLength:"40" doc:"RFC 3339; models made then are left out."`
}

type modelsOut struct {
	Body api.Page[RegisteredModel]
}

func (e *edge) registerModels(v *api.API) {
	op := func(id, path, summary, about string) api.Operation {
		return api.Operation{ID: id, Method: http.MethodGet, Path: "/models" + path, Summary: summary, Description: about, Tags: []string{registry.Models.Name}, Permission: registry.Read}
	}
	api.Register(v, op("list-models", "", "List: models that have versions in the registry",
		"By name. A page that filters narrow looks at 2000 models at most: it may have fewer items than limit while has_more is true. Models of the folder of models alone are not among them: POST /v2/repository/index has all that a node serves."), e.listModels)
	api.Register(v, op("get-model", "/{model}", "Read: model that has versions in the registry", ""), e.getModel)
}

func (e *edge) listModels(ctx context.Context, in *modelsIn) (*modelsOut, error) {
	q := registry.ListModels{Prefix: in.Prefix, Search: in.Search, Stage: registry.Stage(in.Stage), Limit: in.Limit, After: in.Cursor}
	aliases, err := e.aliases(ctx)
	if in.Alias != "" {
		if err != nil {
			return nil, err
		}
		q.Also = func(m *registry.Model) bool { return aliases(m.Name)[in.Alias] != 0 }
	}
	f, err := filterOf(in.Label, in.From, in.To)
	if err != nil {
		return nil, err
	}
	q.Label, q.From, q.To = f.label, f.from, f.to
	page, err := cqrs.Ask(ctx, e.bus, q)
	if err != nil {
		return nil, err
	}
	views := make([]RegisteredModel, len(page.Items))
	for i := range page.Items {
		views[i] = e.modelView(&page.Items[i], aliases)
	}
	return &modelsOut{api.NewPage(views, page.Next)}, nil
}

func (e *edge) getModel(ctx context.Context, in *modelIn) (*modelOut, error) {
	m, err := cqrs.Ask(ctx, e.bus, registry.FindModel{Name: in.Model})
	if err != nil {
		return nil, err
	}
	aliases, _ := e.aliases(ctx) // who may not see them does without
	return &modelOut{e.modelView(m, aliases)}, nil
}

func (e *edge) modelView(m *registry.Model, aliases func(string) map[string]int64) RegisteredModel {
	self, l := e.prefix+"/models/"+url.PathEscape(m.Name), &m.Latest
	view := RegisteredModel{Object: "model", Name: m.Name, Versions: m.Versions(), Stages: map[string]int{},
		Latest:    LatestVersion{l.Number, string(l.Stage), l.Graph, l.Digest, l.SHA256, l.Labels, api.Time{Time: l.Registered}, self + "/versions/" + strconv.FormatInt(l.Number, 10)},
		CreatedAt: api.Time{Time: m.Since}, UpdatedAt: api.Time{Time: m.Changed},
		URLs: ModelURLs{self, self + "/versions", self + "/aliases", self + "/predictions"}}
	for stage, numbers := range m.Stages {
		view.Stages[string(stage)] = len(numbers)
	}
	if view.Latest.Labels == nil {
		view.Latest.Labels = map[string]string{}
	}
	if aliases != nil {
		view.Aliases = aliases(m.Name)
	}
	return view
}

// filter is what lists of models and of versions are narrowed by.
type filter struct {
	label    [2]string // key and value
	from, to time.Time
}

// filterOf reads a filter.
func filterOf(label, from, to string) (f filter, err error) {
	key, value, ok := strings.Cut(label, ":")
	if label != "" && (!ok || key == "") {
		return f, badFilter("label is %q, expected key:value", label)
	}
	f.label = [2]string{key, value}
	if f.from, err = moment("created_from", from); err == nil {
		f.to, err = moment("created_to", to)
	}
	return f, err
}
