package serve

import (
	"context"
	"strconv"
	"strings"

	"sluice/internal/inference/model"
)

// offersGraphs says whether graphs are among the offers; Server.mu is held.
func (m *modelState) offersGraphs() bool {
	for _, o := range m.offers {
		if o.Graph != nil {
			return true
		}
	}
	return false
}

// bindOffers is bind for offered graphs of a model.
func (s *Server) bindOffers(ctx context.Context, name string, m *modelState) (changed bool) {
	var graphs []*offered
	s.update(func() {
		for _, o := range m.offers {
			if o.Graph != nil && !m.unloaded {
				graphs = append(graphs, o)
			}
		}
	})
	var retired []*Version
	for _, o := range graphs {
		v, err := s.openGraph(source{name: name, number: o.Number, data: o.Graph, config: o.Config, agreed: &o.Signature})
		s.update(func() {
			switch {
			case err != nil:
				if o.problem() != describeProblem(err) {
					s.cfg.Log.ErrorContext(ctx, "a graph cannot work with the models that are served", "model", name, "version", o.Number, "error", err)
				}
				o.failed = err
				return
			case o.live != nil && v.alike(o.live):
				o.failed = nil
				return
			case o.live != nil:
				v.Stats = o.live.Stats
				retired = append(retired, o.live)
			}
			o.live, o.failed, changed = v, nil, true
			s.cfg.Log.InfoContext(ctx, "graph loaded", "model", name, "version", v.Text, "sha256", v.SHA256, "max_batch", v.MaxRows, "uses", v.runtime.graph.Uses)
		})
	}
	if changed {
		s.update(func() { s.publish(name, m) })
	}
	s.retireAside(ctx, retired)
	return changed
}

// state is what the index says of an offer; Server.mu is held.
func (o *offered) state() State {
	switch {
	case o.loading != nil:
		return Loading
	case o.live == nil && (o.failed != nil || o.cold == nil):
		return Unavailable
	}
	return Ready
}

// problem is why the offer cannot serve, "" where it can; Server.mu is held.
func (o *offered) problem() string {
	if o.failed == nil || o.loading != nil {
		return ""
	}
	return describeProblem(o.failed)
}

// reasons returns why versions of the model do not serve, by number, and under "" why the
// model does not; Server.mu is held.
func (m *modelState) reasons() map[string]string {
	if !m.offersGraphs() {
		return m.problems
	}
	all := map[string]string{}
	for number, o := range m.offers {
		if o.Graph != nil && o.live == nil && o.failed != nil {
			all[strconv.FormatInt(number, 10)] = o.problem()
		}
	}
	for number, why := range m.problems {
		all[number] = why
	}
	return all
}

// portsText describes ports for people.
func portsText(ports []model.Port) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = "'" + p.Name + "' " + p.Datatype.String() + " " + p.Shape.String()
	}
	return strings.Join(texts, ", ")
}
