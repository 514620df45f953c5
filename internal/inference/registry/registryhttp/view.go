package registryhttp

import (
	"net/url"
	"strconv"
	"time"

	"sluice/internal/inference/registry"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// ModelVersion is what is shown of a version.
type ModelVersion struct {
	resource.Meta
	Model    string             `json:"model"`
	Number   int64              `json:"number" doc:"The version's place in its model; it means these files for ever."`
	Known    bool               `json:"known,omitempty" doc:"The files were this version before: nothing was made or changed."`
	Stage    string             `json:"stage" enum:"registered,validated,ready,rejected,archived"`
	Problem  *VersionProblem    `json:"problem,omitempty" doc:"Why it was rejected."`
	Hold     bool               `json:"hold,omitempty"`
	Digest   string             `json:"digest" doc:"SHA-256 over the lines that sha256sum prints for the files, by name: the version's identity."`
	SHA256   string             `json:"sha256" doc:"Of the model file; predictions call it artifact_digest."`
	Bytes    int64              `json:"bytes"`
	Files    []VersionFile      `json:"files"`
	Inputs   []registry.Port    `json:"inputs" doc:"As the model file has them; -1 stands for an extent that varies."`
	Outputs  []registry.Port    `json:"outputs"`
	Warnings []string           `json:"warnings" doc:"Settings of the configuration that have no effect."`
	Trial    *registry.Trial    `json:"trial,omitempty" doc:"What the run in the sandbox found."`
	Card     string             `json:"card,omitempty"`
	Metrics  map[string]float64 `json:"metrics"`
	Labels   map[string]string  `json:"labels"`
	Lineage  ShownLineage       `json:"lineage"`
	ReadyAt  *api.Time          `json:"ready_at,omitempty"`
	PurgeAt  *api.Time          `json:"purge_at,omitempty" doc:"When the files of a deleted version are removed."`
	URLs     VersionURLs        `json:"urls"`
}

// ShownLineage is what is shown of where a version comes from.
type ShownLineage struct {
	VersionLineage
	Members []VersionMember `json:"members,omitempty" doc:"The models that a graph is made of, as they were when it was registered."`
}

// VersionMember is a model that a graph uses.
type VersionMember struct {
	Model   string `json:"model"`
	Version string `json:"version,omitempty" doc:"As the graph has it: a number, an alias, or nothing for what requests get that name none."`
	Number  int64  `json:"number" doc:"Of the version which that was."`
	SHA256  string `json:"sha256" doc:"Of that version's file."`
}

// VersionProblem is why a version was rejected.
type VersionProblem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// VersionFile is what is shown of a file.
type VersionFile struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// VersionURLs are what can be done with a version.
type VersionURLs struct {
	Self        string `json:"self"`
	Predictions string `json:"predictions"`
}

func (e *edge) view(v *registry.Version) ModelVersion {
	model := e.prefix + "/models/" + url.PathEscape(v.Model)
	number := strconv.FormatInt(v.Number, 10)
	view := ModelVersion{Meta: resource.MetaOf("model_version", &v.Root), Model: v.Model, Number: v.Number, Stage: string(v.Stage), Hold: v.Hold,
		Digest: v.Digest, SHA256: v.SHA256, Bytes: v.Bytes(), Files: make([]VersionFile, len(v.Files)), Inputs: v.Inputs, Outputs: v.Outputs, Warnings: v.Warnings,
		Trial: v.Trial, Card: v.Card, Metrics: v.Metrics, Labels: v.Labels, Lineage: lineageOf(v), ReadyAt: at(v.ReadyAt),
		URLs: VersionURLs{model + "/versions/" + number, model + ":" + number + "/predictions"}}
	for i, f := range v.Files {
		view.Files[i] = VersionFile{f.Name, f.SHA256, f.Bytes}
	}
	if v.Problem != nil {
		view.Problem = &VersionProblem{v.Problem.Code, v.Problem.Message}
	}
	if v.Deleted() {
		view.PurgeAt = at(v.Purge)
	}
	if view.Warnings == nil {
		view.Warnings = []string{}
	}
	if view.Metrics == nil {
		view.Metrics = map[string]float64{}
	}
	if view.Labels == nil {
		view.Labels = map[string]string{}
	}
	return view
}

func lineageOf(v *registry.Version) ShownLineage {
	l := ShownLineage{VersionLineage: VersionLineage(v.Lineage)}
	for _, m := range v.Members {
		l.Members = append(l.Members, VersionMember(m))
	}
	return l
}

func at(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

// number reads the version of the path. What is no number is no version.
func number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != text {
		return 0, repo.ErrNotFound
	}
	return n, nil
}

// expected reads the version of the path, and what If-Match expects.
func expected(text string, m api.IfMatch) (int64, func(int64) error, error) {
	n, err := number(text)
	if err == nil && m.IfMatch == "" {
		err = m.Check(0)
	}
	return n, m.Check, err
}
