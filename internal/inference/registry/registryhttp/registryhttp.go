// Package registryhttp has the models of the registry, and their versions below
// them, as resources of the native API.
package registryhttp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sluice/internal/inference/registry"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/upload"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
)

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "version_exists", Title: "The files are a version already", Fix: "Use the version that detail names, or leave the number out."},
		{Code: "version_number_taken", Title: "The number is another version's", Fix: "Choose another number, or leave it out for the next that is free."},
		{Code: "too_many_versions", Title: "The model has had as many versions as it may", Fix: "Register under another name."},
		{Code: "version_files_invalid", Title: "The files do not make a version", Fix: "Correct what errors names: model.onnx or graph.yaml, and maybe config.yaml or config.pbtxt, label files, golden_inputs.json with golden_outputs.json."},
		{Code: "version_file_too_large", Title: "A file is too large", Fix: "Send a smaller one, or ask the operator to raise model.max_file."},
		{Code: "version_notes_invalid", Title: "Card, metrics or labels cannot be kept", Fix: "Correct what errors names."},
		{Code: "version_stage", Title: "The version cannot go there from its stage", Fix: "Read its stage: validated and archived ones become ready, ready and validated ones archived, rejected ones registered."},
		{Code: "version_in_use", Title: "The version is needed", Fix: "Remove what detail names first."},
		{Code: "version_gone", Title: "The version was deleted for good", Fix: "Register its files again: they get the same number."},
		{Code: "model_name_invalid", Title: "This cannot be a model's name", Fix: "Use up to 255 bytes without slashes, any of : @ % and control characters, not starting with . or _."},
		{Code: "model_config_invalid", Title: "The model's configuration cannot be used", Fix: "Correct what detail names, and register again."},
		{Code: "model_refused", Title: "The model file is refused", Fix: "Export it again as one self-contained ONNX file; detail says what is wrong with this one."},
		{Code: "graph_refused", Title: "The graph cannot work", Fix: "Correct the node that detail names, and have its models served: a graph is checked against them."},
		{Code: "golden_invalid", Title: "The golden run cannot be read", Fix: "Send tensors as in the Open Inference Protocol: inputs in golden_inputs.json, outputs in golden_outputs.json."},
	}
}

// NewVersion is what makes a version.
type NewVersion struct {
	Upload  string             `json:"upload_id,omitempty" maxLength:"64" doc:"A complete upload that is the model file. Send this or files."`
	Files   []NewFile          `json:"files,omitempty" maxItems:"20" doc:"Several files, each a complete upload: model.onnx, or graph.yaml for a model that is made of others; config.yaml or config.pbtxt; label files that it names; golden_inputs.json and golden_outputs.json, a run that the model has to answer so."`
	Number  int64              `json:"number,omitempty" minimum:"1" maximum:"1000000000" doc:"The version's number; without it the next that is free."`
	SHA256  string             `json:"sha256,omitempty" pattern:"^[0-9a-f]{64}$" doc:"Of the model file, or of graph.yaml, if that is known: another one is refused then."`
	Hold    bool               `json:"hold,omitempty" doc:"Once it is validated, wait until a PATCH says ready. Otherwise nodes serve it then."`
	Card    string             `json:"card,omitempty" maxLength:"65536" doc:"What people should know of it, in Markdown."`
	Metrics map[string]float64 `json:"metrics,omitempty" doc:"How good it is, by names of the client's own."`
	Labels  map[string]string  `json:"labels,omitempty" doc:"To find it by."`
	Lineage *VersionLineage    `json:"lineage,omitempty"`
}

// NewFile is one file of a version to be.
type NewFile struct {
	Name   string `json:"name" minLength:"1" maxLength:"255"`
	Upload string `json:"upload_id" minLength:"1" maxLength:"64"`
}

// VersionLineage says what a version was made from.
type VersionLineage struct {
	Data   []string `json:"data,omitempty" maxItems:"50" doc:"Names or addresses of data sets."`
	Code   string   `json:"code,omitempty" maxLength:"500" doc:"What trained it: a repository and commit, say."`
	Parent int64    `json:"parent,omitempty" minimum:"1" doc:"The version of the same model that it was made from."`
	Author string   `json:"author,omitempty" maxLength:"255" doc:"Who made it; who registered it is created_by."`
}

// VersionChange is what changes one; what is left out stays.
type VersionChange struct {
	Stage   *string             `json:"stage,omitempty" enum:"ready,archived,registered" doc:"ready has nodes serve it, archived no more; registered tries a rejected one again."`
	Card    *string             `json:"card,omitempty" maxLength:"65536"`
	Metrics *map[string]float64 `json:"metrics,omitempty"`
	Labels  *map[string]string  `json:"labels,omitempty"`
}

type createIn struct {
	Model string `path:"model" maxLength:"255" doc:"The model's name."`
	Body  NewVersion
}

type oneIn struct {
	Model  string `path:"model" maxLength:"255" doc:"The model's name."`
	Number string `path:"version" maxLength:"20" doc:"The version's number."`
}

type changeIn struct {
	Model  string `path:"model" maxLength:"255" doc:"The model's name."`
	Number string `path:"version" maxLength:"20" doc:"The version's number."`
	api.IfMatch
	Body VersionChange
}

type deleteIn struct {
	Model  string `path:"model" maxLength:"255" doc:"The model's name."`
	Number string `path:"version" maxLength:"20" doc:"The version's number."`
	api.IfMatch
}

type listIn struct {
	Model string `path:"model" maxLength:"255" doc:"The model's name."`
	api.PageQuery
	Stage   string `query:"stage" enum:"registered,validated,ready,rejected,archived"`
	Digest  string `query:"digest" maxLength:"64" doc:"Of the version."`
	SHA256  string `query:"sha256" maxLength:"64" doc:"Of the model file."`
	Label   string `query:"label" maxLength:"700" doc:"key:value. It narrows the page, which may have fewer items than limit while has_more is true."`
	From    string `query:"created_from" maxLength:"40" doc:"RFC 3339."`
	To      string `query:"created_to" maxLength:"40" doc:"RFC 3339; versions made then are left out."`
	Deleted bool   `query:"deleted" doc:"List those that are deleted, and can be restored, instead."`
}

type out struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     ModelVersion
}

type listOut struct{ Body api.Page[ModelVersion] }

// edge serves versions.
type edge struct {
	service *registry.Service
	bus     *cqrs.Bus
	uploads *upload.Service
	aliases Aliases
	prefix  string
}

// Register adds the operations.
func Register(v *api.API, s *registry.Service, uploads *upload.Service, aliases Aliases) {
	e := &edge{s, s.Bus(), uploads, aliases, v.Prefix()}
	e.registerModels(v)
	op := func(id, method, path, summary, about string) api.Operation {
		o := api.Operation{ID: id, Method: method, Path: "/models/{model}/versions" + path, Summary: summary, Description: about, Tags: []string{registry.Versions.Name}, Permission: registry.Write}
		if method == http.MethodGet {
			o.Permission = registry.Read
		}
		return o
	}
	create := op("create-model-version", http.MethodPost, "", "Register: version of a model",
		"Makes a version of complete uploads. The files are inspected before anything is kept; then the version is tried in a sandbox, and becomes validated and ready, or rejected. The same files again are the same version, which is answered with 200.")
	create.Status, create.Idempotency, create.Timeout = http.StatusCreated, api.KeyOptional, 5*time.Minute
	api.Register(v, create, e.create)
	api.Register(v, op("list-model-versions", http.MethodGet, "", "List: versions of a model", "The greatest number first."), e.list)
	api.Register(v, op("get-model-version", http.MethodGet, "/{version}", "Read: version of a model", ""), e.get)
	change := op("change-model-version", http.MethodPatch, "/{version}", "Change: version of a model", "Changes what is noted of a version, and moves it to another stage. Its files never change.")
	change.Idempotency = api.KeyOptional
	api.Register(v, change, e.change)
	remove := op("delete-model-version", http.MethodDelete, "/{version}", "Delete: version of a model",
		"Nodes serve it no more. It can be restored until registry.retention is over, when its files are removed. Its number stays its own: only the same files get it again.")
	remove.Status = http.StatusNoContent
	api.Register(v, remove, e.remove)
	api.Register(v, op("restore-model-version", http.MethodPost, "/{version}/restore", "Restore: version of a model", "Brings back what was deleted."), e.restore)
}

func (e *edge) create(ctx context.Context, in *createIn) (*out, error) {
	b := &in.Body
	files := b.Files
	switch {
	case b.Upload != "" && len(files) > 0:
		return nil, badFiles("send upload_id or files, not both")
	case b.Upload != "":
		files = []NewFile{{Name: registry.ModelFile, Upload: b.Upload}}
	}
	r := registry.Register{Model: in.Model, Number: b.Number, Hold: b.Hold, Notes: registry.Notes{Card: b.Card, Metrics: b.Metrics, Labels: b.Labels}}
	if l := b.Lineage; l != nil {
		r.Lineage = registry.Lineage(*l)
	}
	for _, f := range files {
		u, _, err := e.uploads.Content(ctx, upload.ID(f.Upload))
		if err != nil {
			return nil, fault.Wrap(fault.Of(err).Kind, err, "file %.120q: %s", f.Name, fault.Of(err).Message).WithCode(fault.CodeOf(err))
		}
		if (f.Name == registry.ModelFile || f.Name == registry.GraphFile) && b.SHA256 != "" && b.SHA256 != u.SHA256 {
			return nil, fault.New(fault.Unprocessable, "the model file has the SHA-256 %s, and the request says %s: upload it again", u.SHA256, b.SHA256).WithCode("checksum_mismatch")
		}
		r.Sources = append(r.Sources, registry.Source{Name: f.Name, SHA256: u.SHA256, Bytes: u.Offset, Object: u.Object})
	}
	v, known, err := e.service.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	o := e.out(v)
	if o.Body.Known = known; !known {
		o.Status = http.StatusCreated
	}
	o.Location = o.Body.URLs.Self
	return o, nil
}

func badFiles(text string) error {
	return fault.New(fault.Unprocessable, "%s", text).WithCode("version_files_invalid")
}

func (e *edge) get(ctx context.Context, in *oneIn) (*out, error) {
	n, err := number(in.Number)
	if err != nil {
		return nil, err
	}
	v, err := cqrs.Ask(ctx, e.bus, registry.Find{Model: in.Model, Number: n})
	if err != nil {
		return nil, err
	}
	return e.out(v), nil
}

func (e *edge) list(ctx context.Context, in *listIn) (*listOut, error) {
	f, err := filterOf(in.Label, in.From, in.To)
	if err != nil {
		return nil, err
	}
	page, err := cqrs.Ask(ctx, e.bus, registry.List{Model: in.Model, Stage: registry.Stage(in.Stage), Digest: in.Digest, SHA256: in.SHA256, Deleted: in.Deleted,
		Label: f.label, From: f.from, To: f.to, Limit: in.Limit, After: in.Cursor})
	if err != nil {
		return nil, err
	}
	views := make([]ModelVersion, len(page.Items))
	for i := range page.Items {
		views[i] = e.view(&page.Items[i])
	}
	return &listOut{api.NewPage(views, page.Next)}, nil
}

func moment(name, text string) (t time.Time, err error) {
	if text == "" {
		return t, nil
	}
	if t, err = time.Parse(time.RFC3339, text); err != nil {
		return t, badFilter(name+" is %q, expected a time such as 2026-01-31T12:00:00Z", text)
	}
	return t.UTC(), nil
}

func badFilter(format, text string) error {
	return fault.New(fault.Unprocessable, format, fault.Clip(text, 80)).WithCode("invalid_filter")
}

func (e *edge) change(ctx context.Context, in *changeIn) (*out, error) {
	n, expect, err := expected(in.Number, in.IfMatch)
	if err != nil {
		return nil, err
	}
	c := registry.Note{Model: in.Model, Number: n, Expect: expect, Change: func(notes *registry.Notes) {
		set(&notes.Card, in.Body.Card)
		set(&notes.Metrics, in.Body.Metrics)
		set(&notes.Labels, in.Body.Labels)
	}}
	if in.Body.Stage != nil {
		c.Stage = registry.Stage(*in.Body.Stage)
	}
	v, err := e.service.Change(ctx, c)
	if errors.Is(err, repo.ErrProcessed) { // its answer was lost
		return e.get(ctx, &oneIn{in.Model, in.Number})
	}
	return e.sent(v, err)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (e *edge) remove(ctx context.Context, in *deleteIn) (*struct{}, error) {
	n, expect, err := expected(in.Number, in.IfMatch)
	if err != nil {
		return nil, err
	}
	return nil, e.service.Delete(ctx, registry.Delete{Model: in.Model, Number: n, Expect: expect})
}

func (e *edge) restore(ctx context.Context, in *oneIn) (*out, error) {
	n, err := number(in.Number)
	if err != nil {
		return nil, err
	}
	return e.sent(e.service.Restore(ctx, registry.Restore{Model: in.Model, Number: n}))
}

func (e *edge) sent(v *registry.Version, err error) (*out, error) {
	if err != nil {
		return nil, err
	}
	return e.out(v), nil
}

func (e *edge) out(v *registry.Version) *out {
	return &out{Status: http.StatusOK, ETag: api.ETag(v.Root.Version), Body: e.view(v)}
}
