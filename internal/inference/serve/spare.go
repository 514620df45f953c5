package serve

import "context"

// loadSpare begins to load a version that only a shadow or a fallback wants, if it fits
// without unloading others.
func (s *Server) loadSpare(cold *Version) {
	o := cold.offer
	s.mu.Lock()
	size := max(o.size, o.Bytes)
	s.mu.Unlock()
	if held, _ := s.held(); s.cfg.Memory > 0 && held+size > s.cfg.Memory {
		return
	}
	_, _ = s.load(context.Background(), o, func(ctx context.Context) { s.giveBack(ctx, o) }) // the log says what fails
}

// giveBack unloads a version that turned out to be larger than the room there was.
func (s *Server) giveBack(ctx context.Context, o *offered) {
	held, _ := s.held()
	if s.cfg.Memory <= 0 || held <= s.cfg.Memory {
		return
	}
	var victim *Version
	s.update(func() {
		if victim = o.live; victim != nil {
			o.live = nil
			s.publish(victim.Name, s.models[victim.Name])
		}
	})
	if victim != nil {
		s.metrics.loads.WithLabelValues("evicted").Inc()
		s.retire(ctx, []*Version{victim})
	}
}
