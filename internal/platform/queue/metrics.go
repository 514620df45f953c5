package queue

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// Metrics counts what a queue does, by stream and consumer. Adapters and
// dispatch feed it.
type Metrics struct {
	published *prometheus.CounterVec
	seconds   prometheus.Histogram
	settled   *prometheus.CounterVec
	redone    *prometheus.CounterVec
	inFlight  *prometheus.GaugeVec
}

// NewMetrics registers the metrics; a nil registerer keeps them to itself.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_queue_published_total", Help: "Messages that were published, by outcome: stored, or the code of the error.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_queue_publish_seconds", Help: "Time until a published batch was acknowledged.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
		}),
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_queue_settled_total", Help: "Deliveries by what became of them: acked, retried, dead, interrupted, lost.",
		}, []string{"consumer", "outcome"}),
		redone: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_queue_redelivered_total", Help: "Deliveries that were not the message's first.",
		}, []string{"consumer"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_queue_in_flight", Help: "Deliveries being handled.",
		}, []string{"consumer"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.published, m.seconds, m.settled, m.redone, m.inFlight} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric of the queue cannot be registered")
		}
	}
	return m, nil
}

// Published counts a batch of n messages, for which Publish returns err.
func (m *Metrics) Published(n int, err error, seconds float64) {
	m.seconds.Observe(seconds)
	if err == nil {
		m.published.WithLabelValues("stored").Add(float64(n))
		return
	}
	for i := range n {
		outcome := "stored"
		if e := Outcome(err, i); e != nil {
			outcome = fault.CodeOf(e)
		}
		m.published.WithLabelValues(outcome).Inc()
	}
}

// ConsumerMetrics counts the deliveries of one consumer.
type ConsumerMetrics struct {
	settled  *prometheus.CounterVec
	redone   prometheus.Counter
	inFlight prometheus.Gauge
}

// Settled is what became of a delivery.
type Settled string

// The outcomes of deliveries.
const (
	Acked       Settled = "acked"       // handled
	Retried     Settled = "retried"     // to be delivered again after a delay
	Buried      Settled = "dead"        // made a dead letter
	Interrupted Settled = "interrupted" // given back because the consumer stops
	Lost        Settled = "lost"        // the lease ran out
)

// Consumer returns the metrics of one consumer.
func (m *Metrics) Consumer(name string) *ConsumerMetrics {
	label := prometheus.Labels{"consumer": name}
	return &ConsumerMetrics{settled: m.settled.MustCurryWith(label), redone: m.redone.With(label), inFlight: m.inFlight.With(label)}
}

// Begin counts a delivery.
func (m *ConsumerMetrics) Begin(attempt int) {
	m.inFlight.Inc()
	if attempt > 1 {
		m.redone.Inc()
	}
}

// End counts its outcome.
func (m *ConsumerMetrics) End(outcome Settled) {
	m.inFlight.Dec()
	m.settled.WithLabelValues(string(outcome)).Inc()
}
