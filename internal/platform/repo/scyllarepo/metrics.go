package scyllarepo

import "github.com/prometheus/client_golang/prometheus"

// metrics count what only this driver knows.
type metrics struct {
	attempts prometheus.Counter
	unknown  *prometheus.CounterVec
	stray    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		attempts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_cql_commit_attempts_total", Help: "Batches sent to commit changesets, repetitions included."}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_cql_unknown_outcomes_total", Help: "Commits whose answer was lost, by whether it was found out what became of them."}, []string{"resolved"}),
		stray: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_cql_stray_entries_total", Help: "Entries of query tables that were met and led to nothing."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempts, m.unknown, m.stray} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) tried() { m.attempts.Inc() }

func (m *metrics) resolved(unknown bool) {
	if unknown {
		m.unknown.WithLabelValues("true").Inc()
	}
}

func (m *metrics) unresolved() { m.unknown.WithLabelValues("false").Inc() }

func (m *metrics) astray() { m.stray.Inc() }
