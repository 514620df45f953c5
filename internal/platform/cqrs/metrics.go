package cqrs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// metrics counts calls. Names are those that are registered, so there are few.
type metrics struct {
	calls     *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	unaudited prometheus.Counter
	dropped   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_bus_calls_total", Help: "Commands and queries, by name and the kind of error, ok for none.",
		}, []string{"name", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_bus_call_seconds", Help: "Time of commands, their commit included, and of queries.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"name"}),
		unaudited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_audit_refusals_lost_total", Help: "Denials and failures whose audit entry could not be stored.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_audit_denials_dropped_total", Help: "Denials of principals that were denied too often in a second for each to get an audit entry.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.calls, m.seconds, m.unaudited, m.dropped} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return m, nil
}

// routeMetrics counts the calls of one route.
type routeMetrics struct {
	calls   *prometheus.CounterVec // by outcome
	ok      prometheus.Counter
	seconds prometheus.Observer
}

func (m *metrics) of(name string) *routeMetrics {
	calls := m.calls.MustCurryWith(prometheus.Labels{"name": name})
	return &routeMetrics{calls, calls.WithLabelValues("ok"), m.seconds.WithLabelValues(name)}
}

func (m *routeMetrics) count(err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	if err == nil {
		m.ok.Inc()
		return
	}
	m.calls.WithLabelValues(fault.Of(err).Kind.String()).Inc()
}
