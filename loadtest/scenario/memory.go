package scenario

import (
	"context"
	"time"
)

// memory is the servers' resident memory over the run.
type memory struct {
	begin time.Time
	ends  []time.Duration
	at    []time.Duration
	mb    []float64
}

// most returns the most that it was in a phase, or ever.
func (m *memory) most(phase int) (most float64) {
	for i, at := range m.at {
		if phase < 0 || at < m.ends[phase] && (phase == 0 || at >= m.ends[phase-1]) {
			most = max(most, m.mb[i])
		}
	}
	return most
}

// watch reads the memory four times a second until ctx ends.
func (m *memory) watch(ctx context.Context, w *world) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.at, m.mb = append(m.at, time.Since(m.begin)), append(m.mb, w.rss())
		}
	}
}
