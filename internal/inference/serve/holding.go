package serve

import (
	"sync"

	"sluice/internal/inference/graph"
	"sluice/internal/platform/budget"
)

// Holding is a Codec whose request has an account of its memory, nil for none. What the nodes
// of a graph make for the request counts there, too.
type Holding interface{ Account() *budget.Account }

// HoldIn sets the budget for what graphs make for requests whose codecs have no account.
// Call it before there are requests.
func (s *Server) HoldIn(b *budget.Budget) { s.memory = b }

// holding is a request's account, for nodes that run at the same time.
type holding struct {
	mu      sync.Mutex
	account *budget.Account
}

// Acquire implements graph.Memory.
func (h *holding) Acquire(n int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.account.Acquire(n)
}

// Return implements graph.Memory.
func (h *holding) Return(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.account.Return(n)
}

// holding returns where the tensors that a graph makes for a request are counted.
func (s *Server) holding(c *call) *holding {
	if c.holds != nil {
		return c.holds // of the request to the graph around it
	}
	if codec, ok := c.asker.codec.(Holding); ok {
		c.holding.account = codec.Account()
	}
	if c.holding.account == nil {
		account := s.memory.Account()
		c.holding.account = &account
	}
	c.holds = &c.holding
	return c.holds
}

// keep makes the models of a graph the last to be unloaded for others, until the returned
// function is called, so that nodes that have yet to run find them loaded.
func (s *Server) keep(g *graph.Graph) (end func()) {
	if s.cfg.Memory <= 0 {
		return func() {}
	}
	table := s.table.Load()
	var kept []*Stats
	for _, use := range g.Calls() {
		if chosen, err := table.Pick(use.Model, use.Version, nil); err == nil {
			chosen.Value.Stats.wanted.Add(1)
			kept = append(kept, chosen.Value.Stats)
		}
	}
	return func() {
		for _, stats := range kept {
			stats.wanted.Add(-1)
		}
	}
}
