package registry

import (
	"context"
	"fmt"

	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
	"sluice/internal/inference/route"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Fits fails with fault.Conflict and the code "alias_breaks_graph" where an alias must not
// lead to a version, because a graph of the registry uses the alias and the version takes or
// gives other tensors than the one that the graph was made of. The error names the graph and
// the tensor. Where that version is not served any more, the one that the alias leads to now
// counts.
func (s *Service) Fits(ctx context.Context, name, alias string, number int64) error {
	if s.cfg.Graphs == nil {
		return nil
	}
	to, err := s.cfg.Graphs.Member(name, itoa(number))
	if err != nil {
		return nil // whoever points the alias finds that it cannot serve
	}
	for g, err := range Versions.All(ctx, s.store.Read(repo.Scope{}), spec.Query[Version]{Where: graphField.Eq(true)}) {
		if err != nil {
			return err
		}
		if !g.Stage.needsMembers() {
			continue
		}
		for _, m := range g.Members {
			if m.Model != name || m.Version != alias && (m.Version != "" || alias != route.Default) {
				continue
			}
			from, err := s.made(&m)
			if err != nil {
				continue // it is broken already: nothing says what would mend it
			}
			if tensor := differs(&from.Signature, &to.Signature); tensor != "" {
				return fault.New(fault.Conflict, "version %d of the graph %q uses %s@%s, and is made for %s: version %d cannot stand in for it. Register a graph that fits, or archive that one, first",
					g.Number, g.Model, name, alias, tensor, number).WithCode("alias_breaks_graph")
			}
		}
	}
	return nil
}

// made returns what a graph was made of, or else what it is made of now.
func (s *Service) made(m *Member) (graph.Member, error) {
	if was, err := s.cfg.Graphs.Member(m.Model, itoa(m.Number)); err == nil && was.SHA256 == m.SHA256 {
		return was, nil
	}
	return s.cfg.Graphs.Member(m.Model, m.Version)
}

// differs describes the first tensor that two signatures do not have in common, "" for none.
func differs(a, b *model.Signature) string {
	for _, side := range []struct {
		what string
		a, b []model.Port
	}{{"input", a.Inputs, b.Inputs}, {"output", a.Outputs, b.Outputs}} {
		there := map[string]*model.Port{}
		for i := range side.b {
			there[side.b[i].Name] = &side.b[i]
		}
		for i := range side.a {
			p := &side.a[i]
			other := there[p.Name]
			delete(there, p.Name)
			switch {
			case other == nil:
				return fmt.Sprintf("the %s '%s' of %s and shape %s, which is missing there", side.what, p.Name, p.Datatype, p.Shape)
			case !other.Same(*p):
				return fmt.Sprintf("the %s '%s' of %s and shape %s, which is of %s and shape %s there", side.what, p.Name, p.Datatype, p.Shape, other.Datatype, other.Shape)
			}
		}
		for i := range side.b {
			if there[side.b[i].Name] != nil {
				return fmt.Sprintf("no %s '%s', which is there", side.what, side.b[i].Name)
			}
		}
	}
	return ""
}
