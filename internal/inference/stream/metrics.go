package stream

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// metrics is what an operator sees of streams.
type metrics struct {
	streams          *prometheus.GaugeVec
	sequences, bytes prometheus.Gauge
	steps            *prometheus.CounterVec
	ended, refused   *prometheus.CounterVec
	generations      *prometheus.CounterVec
	generated        prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		streams:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_inference_streams", Help: "Streams of inference that are open."}, []string{"transport"}),
		sequences:   gauge("sluice_inference_sequences", "Sequences of stateful models, and generations, that have state here."),
		bytes:       gauge("sluice_inference_sequence_bytes", "Bytes of their states."),
		steps:       counter("sluice_inference_sequence_steps_total", "Steps of stateful models, by whether they were answered.", "outcome"),
		ended:       counter("sluice_inference_sequences_ended_total", "Sequences that ended, by the reason.", "reason"),
		refused:     counter("sluice_inference_sequences_refused_total", "Steps refused at a limit of sequences or their states, by its code.", "reason"),
		generations: counter("sluice_inference_generations_total", "Generations that ended, by the reason.", "reason"),
		generated:   prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_inference_generation_steps_total", Help: "Steps of generative models that were answered."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.streams, m.sequences, m.bytes, m.steps, m.ended, m.refused, m.generations, m.generated} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return m, nil
}

// step counts a step of a stateful model.
func (m *metrics) step(ok bool) {
	if ok {
		m.steps.WithLabelValues("answered").Inc()
	} else {
		m.steps.WithLabelValues("failed").Inc()
	}
}
