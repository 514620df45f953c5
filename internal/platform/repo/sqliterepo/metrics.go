package sqliterepo

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/sqlite"
)

// metrics are what the writer tells of itself.
type metrics struct {
	seconds prometheus.Histogram
	shared  prometheus.Histogram
	depth   prometheus.Gauge
	moves   prometheus.Histogram
	log     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_sqlite_commit_seconds", Help: "Time that a transaction took, its fsync included.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		shared: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_sqlite_commit_changesets", Help: "Changesets that shared a transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		depth: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_sqlite_queue_depth", Help: "Changesets that wait for the writer."}),
		moves: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_sqlite_checkpoint_seconds", Help: "Time that moving the write-ahead log into the file took, beside the commits.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		log: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_sqlite_log_pages", Help: "Pages of 4 KiB in the write-ahead log when it was last moved; beyond 16,000 commits move it themselves, and wait for that."}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.seconds), r.Register(m.shared), r.Register(m.depth), r.Register(m.moves), r.Register(m.log))
}

func (m *metrics) committed(changesets int, took time.Duration, waiting int) {
	m.seconds.Observe(took.Seconds())
	m.shared.Observe(float64(changesets))
	m.depth.Set(float64(waiting))
}

func (m *metrics) moved(l sqlite.Log, took time.Duration) {
	m.moves.Observe(took.Seconds())
	m.log.Set(float64(l.Pages))
}
