package deliver

import (
	"cmp"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/webhook"
)

type metrics struct {
	accepted, deferred, malformed, resealed prometheus.Counter
	attempts, disabled                      *prometheus.CounterVec
	latency                                 prometheus.Histogram
	pending                                 prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, waiting *lanes) (*metrics, error) {
	m := &metrics{
		accepted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_webhook_deliveries_total", Help: "Deliveries that events have made."}),
		deferred:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_webhook_deferred_total", Help: "Deliveries that found no room in memory, since too many wait for their endpoint; they are announced again."}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_webhook_malformed_total", Help: "Events that no delivery can be made of; the log says which."}),
		resealed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_webhook_endpoints_resealed_total", Help: "Endpoints whose secrets were sealed with another key, since keys were rotated."}),
		attempts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_webhook_attempts_total", Help: "Attempts by outcome: delivered, or why not."}, []string{"outcome"}),
		disabled:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_webhook_endpoints_disabled_total", Help: "Endpoints that were disabled, by reason."}, []string{"reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_webhook_attempt_seconds", Help: "Time of attempts, from resolving the name to the end of the answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30}}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_webhook_pending", Help: fmt.Sprintf("Deliveries that are not final, as counted by the process that reconciles; 0 in others. Where the store keeps no counts, as in a cluster of CQL, at most %d of a tenant count.", batch)}),
	}
	if r == nil {
		return m, nil
	}
	inMemory := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_webhook_waiting", Help: "Deliveries that wait for their turn in this process."},
		func() float64 { return float64(waiting.backlogged()) })
	for _, c := range []prometheus.Collector{m.accepted, m.deferred, m.malformed, m.resealed, m.attempts, m.disabled, m.latency, m.pending, inMemory} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return m, nil
}

func (m *metrics) observe(r webhook.Result) {
	m.attempts.WithLabelValues(cmp.Or(string(r.Class), "delivered")).Inc()
	m.latency.Observe(r.Duration.Seconds())
}
