package serve

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/platform/access"
)

// asker is what experiments see of a request.
type asker struct {
	ctx   context.Context //nolint:containedctx // for as long as the request is routed
	codec Codec
	drawn string // an id for a request without one, once that was asked for
}

// Value implements experiment.Request.
func (a *asker) Value(from experiment.Source, name string) string {
	if from == experiment.Tenant {
		if p, ok := access.From(a.ctx); ok {
			return p.Tenant
		}
		return ""
	}
	if c, ok := a.codec.(Asking); ok {
		if v := c.Value(a.ctx, from, name); v != "" {
			return v
		}
	}
	if from != experiment.RequestID {
		return ""
	}
	if a.drawn == "" {
		a.drawn = strconv.FormatUint(unnamed.Add(1), 36)
	}
	return a.drawn
}

// unnamed counts the requests that were given an id here.
var unnamed atomic.Uint64

// recorded returns a choice as the log has it.
func recorded(c *route.Choice[*Version]) record.Choice {
	if c.Split == nil {
		return record.Choice{}
	}
	return record.Choice{Experiment: c.Split.ID, Arm: c.Split.Arms[c.Arm].Name, ByRule: c.Reason == experiment.ByRule}
}

// before counts a request for the arm that it was given to before it came here, and whose
// version it asks for, if the arm still divides requests.
func (s *Server) before(c *route.Choice[*Version], was record.Choice) {
	if c.Split != nil || was.Experiment == "" {
		return
	}
	split, arm := s.table.Load().Arm(was.Experiment, was.Arm)
	if split == nil || split.Arms[arm].Digest != c.Value.SHA256 {
		return
	}
	if c.Split, c.Arm, c.Reason = split, arm, experiment.ByUnit; was.ByRule {
		c.Reason = experiment.ByRule
	}
}

// meter tells the arm of a choice, if there is one, what became of its request. As in
// record.Rollup.Numbers, failures that the client caused do not count. Requests of a graph's
// nodes share one id, and bulk work is cut as it suits: neither is a unit of its own.
func meter(c *route.Choice[*Version], r *call, began time.Time, err error) {
	if c.Split == nil {
		return
	}
	class, reason := r.request.Class, c.Reason
	if reason == experiment.ByRequest && (r.inner || class == batcher.Bulk) {
		reason = experiment.ByUnit
	}
	m, outcome := c.Split.Arms[c.Arm].Meter, record.OutcomeOf(err)
	switch {
	case m == nil:
	case outcome == record.Succeeded && class == batcher.Bulk:
		m.Spared(reason)
	case outcome == record.Succeeded:
		m.Answered(reason, time.Since(began))
	case outcome.Failure():
		m.Failed(reason)
	}
}
