package feed

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

type metrics struct {
	connections *prometheus.GaugeVec
	sent        *prometheus.CounterVec
	dropped     *prometheus.CounterVec
	gaps        *prometheus.CounterVec
	refused     *prometheus.CounterVec
	spills      prometheus.Counter
	lag         prometheus.Histogram
	buffered    prometheus.Gauge
	channels    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_feed_connections", Help: "Open subscriptions."}, []string{"transport", "policy"}),
		sent:        counter("sluice_feed_events_sent_total", "Events that were written to consumers.", "transport"),
		dropped:     counter("sluice_feed_events_dropped_total", "Events that a consumer did not get by its policy: conflated, or followed by a gap event.", "policy"),
		gaps:        counter("sluice_feed_gaps_total", "Gaps that consumers were told of.", "reason"),
		refused:     counter("sluice_feed_refused_total", "Subscriptions that were refused, by the code of the error.", "code"),
		spills:      prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_feed_spill_reads_total", Help: "Reads of the source for consumers that were behind."}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_feed_lag_seconds", Help: "Time from an event until it was written to a consumer that was up to date.",
			Buckets: prometheus.ExponentialBuckets(1e-3, 2, 16)}),
		buffered: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_feed_buffered_bytes", Help: "What the rings of recent events hold, with encodings."}),
		channels: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_feed_channels", Help: "Readers of the source that are shared by consumers."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connections, m.sent, m.dropped, m.gaps, m.refused, m.spills, m.lag, m.buffered, m.channels} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric of the feed cannot be registered")
		}
	}
	return m, nil
}
