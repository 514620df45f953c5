package run

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/batch/job"
)

// Metrics count what the workers of a process do.
type Metrics struct {
	rows   *prometheus.CounterVec
	reused prometheus.Counter
	chunks *prometheus.CounterVec
	ratio  prometheus.Histogram
}

// NewMetrics registers the metrics; nil registers them nowhere.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		rows:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_batch_rows_total", Help: "Rows of batches by what became of them here: succeeded, failed."}, []string{"outcome"}),
		reused: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_batch_rows_reused_total", Help: "Rows of batches that were answered by the run of an equal row."}),
		chunks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_batch_chunks_total", Help: "Chunks that were begun here by how that ended: done, lost to another worker, failed."}, []string{"outcome"}),
		ratio: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_batch_forecast_ratio", Help: "How long batches took over what they were forecast to take.",
			Buckets: []float64{0.25, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4}}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.rows, m.reused, m.chunks, m.ratio} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// computed counts a chunk of which so many rows were run, and are the batch's.
func (m *Metrics) computed(o *job.Outcome, rows int) {
	m.chunks.WithLabelValues("done").Inc()
	m.rows.WithLabelValues("succeeded").Add(float64(rows - o.Failed))
	m.rows.WithLabelValues("failed").Add(float64(o.Failed))
	m.reused.Add(float64(o.Reused))
}
