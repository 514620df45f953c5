package export

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// metrics are what an operator sees of exports.
type metrics struct {
	outcomes    *prometheus.CounterVec
	rows, bytes prometheus.Counter
	running     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_exports_total", Help: "Exports by how they ended here: completed, failed."}, []string{"outcome"}),
		rows:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_export_rows_total", Help: "Rows of completed exports."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_export_bytes_total", Help: "Bytes of completed exports."}),
		running:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_exports_running", Help: "Exports that this process runs now."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.outcomes, m.rows, m.bytes, m.running} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the metrics of exports cannot be registered")
		}
	}
	return m, nil
}

func (m *metrics) ended(outcome string) { m.outcomes.WithLabelValues(outcome).Inc() }
