package serve

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/model"
	"sluice/internal/inference/route"
	"sluice/internal/platform/fault"
)

// overloaded reports whether a request was refused because too many others wait.
func overloaded(err error) bool {
	code := fault.CodeOf(err)
	return code == batcher.CodeQueueFull || code == batcher.CodeOverloaded
}

// fallBack has the variant that the chosen version's configuration names answer a request
// that the version refused for load. If the variant has no room either, the request stays
// refused: its own fallback is not asked. For the arm that the request was given to, it
// counts as refused whoever answers.
func (s *Server) fallBack(ctx context.Context, codec Codec, chosen *route.Choice[*Version], c *call, start, decoded time.Time, refusal error) error {
	from := chosen.Value
	to := s.variant(from)
	if to == nil {
		return s.fellBack(from, "missing", refusal)
	}
	defer to.release()
	if c.redirect(from, to) != nil {
		return s.fellBack(from, "unfit", refusal)
	}
	to.Stats.Pending.Add(1)
	defer to.Stats.Pending.Add(-1)
	c.schedule(to, start, decoded)
	ran, err := s.compute(ctx, to, c)
	if err != nil && overloaded(err) {
		return s.fellBack(from, "refused", refusal)
	}
	meter(chosen, c, start, refusal)
	*chosen = route.Choice[*Version]{Value: to} // of no arm
	c.fallback = from.Name + ":" + from.Text
	c.request.Attempt++
	if err != nil {
		return s.fellBack(from, "failed", to.refused(ctx, start, c, err))
	}
	if err := s.reply(ctx, codec, to, c, start, decoded, ran); err != nil {
		return s.fellBack(from, "failed", err)
	}
	return s.fellBack(from, "answered", nil)
}

// fellBack counts what became of a request, and returns err.
func (s *Server) fellBack(v *Version, outcome string, err error) error {
	s.metrics.fallbacks.WithLabelValues(v.Name, v.Text, outcome).Inc()
	return err
}

// named returns the version that a version's fallback stands for now; nil where that is not
// served, or is the version itself.
func (s *Server) named(v *Version) *Version {
	f := v.Config.Fallback
	chosen, err := s.table.Load().Pick(cmp.Or(f.Model, v.Name), f.Version, nil)
	if err != nil || chosen.Value.Name == v.Name && chosen.Value.Number == v.Number {
		return nil
	}
	return chosen.Value
}

// variant is named with a reference taken. It is nil also where the variant is not loaded,
// and begins to load it for later requests.
func (s *Server) variant(v *Version) *Version {
	for {
		to := s.named(v)
		if to == nil || to.acquire() {
			return to
		}
		if to.offer != nil {
			s.loadSpare(to)
			return nil
		}
	}
}

// redirect arranges the call anew, for a version that may answer for another.
func (c *call) redirect(from, to *Version) error {
	if err := from.exchangeable(to); err != nil {
		return err
	}
	if len(c.request.Outputs) == 0 { // those of from, in its order
		for i := range from.graph.Outputs {
			c.request.Outputs = append(c.request.Outputs, from.graph.Outputs[i].Name)
		}
	}
	c.part.Reset()
	c.wanted = c.wanted[:0]
	return c.arrange(to)
}

// exchangeable refuses a version that does not take what v takes and give what v
// gives: the names and datatypes of v's tensors, in any order, and extents that
// clients of v can send and expect.
func (v *Version) exchangeable(to *Version) error {
	if v.Batches == to.Batches && !to.Stateful() && !to.Generative() &&
		slices.EqualFunc(byName(v.graph.Inputs), byName(to.graph.Inputs), func(a, b model.Port) bool { return fitting(&a, &b) }) &&
		slices.EqualFunc(byName(to.graph.Outputs), byName(v.graph.Outputs), func(a, b model.Port) bool { return fitting(&a, &b) }) {
		return nil
	}
	return fault.New(fault.Invalid, "version %s of model '%s' cannot be the fallback of version %s of '%s': it does not take and give the same tensors", to.Text, to.Name, v.Text, v.Name).WithCode("fallback_unfit")
}

func byName(ports []model.Port) []model.Port {
	return slices.SortedFunc(slices.Values(ports), func(a, b model.Port) int { return cmp.Compare(a.Name, b.Name) })
}

// fitting reports whether every tensor of port a is also one of port b.
func fitting(a, b *model.Port) bool {
	return a.Name == b.Name && a.Datatype == b.Datatype && matches(b.Shape, a.Shape)
}

// longest bounds how far fallbacks are followed in search of a cycle.
const longest = 16

// checkFallback refuses a version whose fallback cannot answer for it, or leads back to it.
// A fallback that is not served yet is checked when it comes.
func (s *Server) checkFallback(v *Version) error {
	if v.Config.Fallback == (model.Fallback{}) {
		return nil
	}
	if v.Config.Fallback.Version == "" && v.Config.Fallback.Model == v.Name {
		return fault.New(fault.Invalid, "model '%s' cannot be its own fallback: name another, or a version of it as @version", v.Name).WithCode("fallback_unfit")
	}
	to := s.named(v)
	if to == nil {
		return nil
	}
	if err := v.exchangeable(to); err != nil {
		return err
	}
	for range longest {
		if to == nil || to.Config.Fallback == (model.Fallback{}) {
			break
		}
		if s.leadsTo(to, v) {
			return fault.New(fault.Invalid, "version %s of model '%s' is in the end its own fallback: have one of those that it leads to end it", v.Text, v.Name).WithCode("fallback_unfit")
		}
		to = s.named(to)
	}
	return nil
}

// leadsTo reports whether from's fallback is v, which need not be served yet.
func (s *Server) leadsTo(from, v *Version) bool {
	f := from.Config.Fallback
	if cmp.Or(f.Model, from.Name) != v.Name {
		return false
	}
	number, alias := s.table.Load().Stands(v.Name, f.Version)
	if !alias {
		number = v.Config.Labels[f.Version]
	}
	return f.Version == "" || f.Version == v.Text || number == v.Number
}

// checkFallbacks tells the operator of unfit fallbacks that were found only after their
// versions were loaded.
func (s *Server) checkFallbacks(ctx context.Context) {
	for v := range s.table.Load().All() {
		if err := s.checkFallback(v); err != nil && !v.told.Swap(true) {
			s.cfg.Log.ErrorContext(ctx, "a model version has a fallback that cannot answer for it: what it refuses for load stays refused", "model", v.Name, "version", v.Text, "error", err)
		}
	}
}
