package relay

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

type metrics struct {
	published, failures prometheus.Counter
	lag                 prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, outbox repo.Outbox) (*metrics, error) {
	m := &metrics{
		published: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_relay_published_total", Help: "Messages that the queue has acknowledged."}),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_relay_failures_total", Help: "Attempts to publish that failed; the messages wait in the outbox."}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_relay_lag_seconds", Help: "Time from the unit of work of a message to the queue's acknowledgement.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}),
	}
	if r == nil {
		return m, nil
	}
	pending := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_outbox_pending", Help: "Messages in the outbox that are not published yet; -1 where the store does not answer.",
	}, func() float64 { return backlog(outbox) })
	for _, c := range []prometheus.Collector{m.published, m.failures, m.lag, pending} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return m, nil
}

// backlog counts what is pending, for whoever scrapes the metrics.
func backlog(outbox repo.Outbox) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	total := 0
	for shard := range outbox.Shards() {
		n, _, err := outbox.Backlog(ctx, shard)
		if err != nil {
			return -1
		}
		total += n
	}
	return float64(total)
}
