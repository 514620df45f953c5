package evaluation

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// metrics are what an operator sees of evaluations.
type metrics struct {
	outcomes *prometheus.CounterVec
	rows     *prometheus.CounterVec
	running  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_evaluations_total", Help: "Evaluations by how they ended here: completed, failed."}, []string{"outcome"}),
		rows:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_evaluation_rows_total", Help: "Rows of evaluations that have ended, by what came of them: agreed, differed, failed, skipped."}, []string{"outcome"}),
		running:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_evaluations_running", Help: "Evaluations that this process runs now."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.outcomes, m.rows, m.running} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the metrics of evaluations cannot be registered")
		}
	}
	return m, nil
}

func (m *metrics) ended(e *Evaluation) {
	m.outcomes.WithLabelValues(string(e.Status)).Inc()
	r, skipped := &e.Done.Result, int64(0)
	for _, n := range r.Skipped {
		skipped += n
	}
	for outcome, n := range map[string]int64{"agreed": r.Rows - r.Flips, "differed": r.Flips - r.Errors, "failed": r.Errors, "skipped": skipped} {
		m.rows.WithLabelValues(outcome).Add(float64(n))
	}
}
