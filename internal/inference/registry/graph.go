package registry

import (
	"context"
	"fmt"
	"slices"

	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Graphs are the models that are served, as the registry of graphs sees them.
type Graphs interface {
	// Member returns a model that a graph may use; it fails where none is served.
	Member(model, version string) (graph.Member, error)
	// TryGraph checks a graph without serving it, and has it answer a golden run where
	// there is one. An error that is Invalid is about the graph.
	TryGraph(ctx context.Context, name string, number int64, file []byte, config model.Config, golden *probe.Golden) (probe.Report, error)
}

// Member is a model that a graph uses, as it was when the graph was registered.
type Member struct {
	Model string `json:"model"`
	// Version is what the graph asks for: a number, an alias, or nothing. Number and SHA256 are
	// those of the version that this led to, and of its file.
	Version string `json:"version,omitempty"`
	Number  int64  `json:"number"`
	SHA256  string `json:"sha256"`
}

// inspectGraph checks a graph against the models that are served, by the rules that
// hold when nodes load it, and notes what it takes, gives and is made of.
func (s *Service) inspectGraph(v *Version, file []byte, config model.Config) error {
	if s.cfg.Graphs == nil {
		return fault.New(fault.Unsupported, "this registry takes model files only: %s needs a server that serves its models", GraphFile).WithCode("graph_refused")
	}
	parsed, err := model.ParseGraph(file, GraphFile)
	if err != nil {
		return refusedGraph(err)
	}
	g, err := graph.Compile(v.Model, &parsed, s.cfg.Graphs.Member, nil)
	if err != nil {
		return refusedGraph(err)
	}
	resolved, _, err := model.ResolveGraph(config, g.Signature, g.Batches, g.MaxRows)
	if err != nil {
		return badConfig(err)
	}
	v.be(v.Main().SHA256, g.Signature, resolved.Warnings)
	for _, use := range g.Calls() {
		v.Members = append(v.Members, Member{use.Model, use.Version, use.Member.Number, use.Member.SHA256})
	}
	return nil
}

// keepMembers keeps the versions that a graph uses now, see Keep. An alias may lead elsewhere
// than when the graph was registered.
func (s *Service) keepMembers(ctx context.Context, v *Version) (context.Context, func(), error) {
	all := make([]numberOf, 0, len(v.Members))
	for _, m := range v.Members {
		number := m.Number
		if s.cfg.Graphs != nil {
			now, err := s.cfg.Graphs.Member(m.Model, m.Version)
			if err != nil {
				return ctx, nil, errMember(v, err)
			}
			number = now.Number
		}
		all = append(all, numberOf{m.Model, number})
	}
	ctx, end, err := s.keepAll(ctx, all)
	if fault.CodeOf(err) == codeMissing {
		err = errMember(v, err)
	}
	return ctx, end, err
}

// refusedGraph returns the error for a graph that cannot work. One whose models are only
// being loaded can be sent again.
func refusedGraph(err error) error {
	if fault.Of(err).Kind.Retryable() {
		return err
	}
	return fault.Wrap(fault.Unprocessable, err, "the graph is refused: %s", fault.Of(err).Message).WithCode("graph_refused")
}

// tryGraph is the trial of a graph.
func (t *Trials) tryGraph(ctx context.Context, v *Version, file []byte, config model.Config, golden *probe.Golden) (probe.Report, error) {
	if t.service.cfg.Graphs == nil {
		return probe.Report{}, fault.New(fault.Unavailable, "this process serves no models: another tries the graph")
	}
	report, err := t.service.cfg.Graphs.TryGraph(ctx, v.Model, v.Number, file, config, golden)
	if fault.Is(err, fault.NotFound) { // this process may not know yet of a model that another has
		err = fault.Wrap(fault.NotFound, err, "%s", fault.Of(err).Message).WithCode(codeMember)
	}
	return report, err
}

// codeMember is the code of a graph's trial that lacks a model.
const codeMember = "graph_model_missing"

// usedByGraph says which graph needs a version, "" for none: one that names its number, or
// names only the model where that has no other version. What an alias leads to the alias
// itself needs.
func (s *Service) usedByGraph(ctx context.Context, from repo.Reading, v *Version) (string, error) {
	for g, err := range Versions.All(ctx, from, spec.Query[Version]{Where: graphField.Eq(true)}) {
		if err != nil {
			return "", err
		}
		if !g.Stage.needsMembers() || g.ID == v.ID {
			continue
		}
		for _, m := range g.Members {
			is, err := s.isMember(ctx, from, &m, v)
			if err != nil || is {
				return fmt.Sprintf("version %d of the graph %q is made of it: archive or delete that first", g.Number, g.Model), err
			}
		}
	}
	return "", nil
}

func (s *Service) isMember(ctx context.Context, from repo.Reading, m *Member, v *Version) (bool, error) {
	switch {
	case m.Model != v.Model:
		return false, nil
	case m.Version != "":
		return m.Version == itoa(v.Number), nil
	case s.cfg.Graphs == nil:
		return false, nil
	}
	if now, err := s.cfg.Graphs.Member(m.Model, ""); err != nil || now.Number != v.Number {
		return false, nil //nolint:nilerr // it is broken without this version, too
	}
	others, err := Versions.Find(ctx, from, spec.Query[Version]{Where: spec.And(modelField.Eq(v.Model), stageField.Eq(Ready)), Limit: 2})
	return !slices.ContainsFunc(others.Items, func(o Version) bool { return o.ID != v.ID }), err
}

// membersServe fails where a model of a graph is not served.
func (s *Service) membersServe(v *Version) error {
	for _, m := range v.Members {
		if s.cfg.Graphs == nil {
			return nil
		}
		if _, err := s.cfg.Graphs.Member(m.Model, m.Version); err != nil {
			return errMember(v, err)
		}
	}
	return nil
}

func errMember(v *Version, err error) error {
	return fault.Wrap(fault.Conflict, err, "version %d of the graph %q cannot serve: %s", v.Number, v.Model, fault.Of(err).Message).WithCode(codeMember)
}

// needsMembers reports whether graphs in the stage need their models.
func (s Stage) needsMembers() bool { return s != Rejected && s != Archived }
