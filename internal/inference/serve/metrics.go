package serve

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/platform/fault"
)

// metrics are the server's own histograms and counters. Triton's metric names
// are served from Stats by collector.go, at no cost to a request.
type metrics struct {
	queue, infer, encode, total *prometheus.HistogramVec
	rows                        *prometheus.HistogramVec
	refusals                    *prometheus.CounterVec
	isolated                    *prometheus.CounterVec
	unrouted                    prometheus.Counter
	loads                       *prometheus.CounterVec
	nodes                       *prometheus.HistogramVec
	nodeErrors                  *prometheus.CounterVec
	shadowed, unshadowed        *prometheus.CounterVec
	fallbacks                   *prometheus.CounterVec
}

// durations reach from tens of microseconds to half a minute.
var durations = prometheus.ExponentialBucketsRange(50e-6, 30, 20)

func newMetrics(r prometheus.Registerer) *metrics {
	labels := func(more ...string) []string { return slices.Concat(byVersion, more) }
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, byVersion)
	}
	m := &metrics{
		queue:  histogram("sluice_inference_queue_seconds", "Time from the end of decoding to the start of the run.", durations),
		infer:  histogram("sluice_inference_run_seconds", "Time of the run that served a request.", durations),
		encode: histogram("sluice_inference_encode_seconds", "Time to encode and write an answer.", durations),
		total:  histogram("sluice_inference_request_seconds", "Time from the first byte decoded to the answer written.", durations),
		rows:   histogram("sluice_inference_batch_rows", "Rows in a run.", prometheus.ExponentialBuckets(1, 2, 11)),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_inference_refusals_total", Help: "Requests not answered, by the reason's code.",
		}, labels("reason")),
		isolated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_inference_isolated_runs_total", Help: "Runs that failed and were repeated request by request.",
		}, byVersion),
		unrouted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_inference_unrouted_total", Help: "Requests for a model or version that is not served.",
		}),
	}
	m.loads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_model_loads_total", Help: "Versions that are loaded on demand, by what became of them: loaded, failed, evicted for others.",
	}, []string{"outcome"})
	m.nodes = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "sluice_graph_node_seconds", Help: "Time of a node of a graph, those within it included.", Buckets: durations,
	}, labels("node"))
	m.nodeErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_graph_node_errors_total", Help: "Nodes of a graph that failed, or were ended because others did, by the reason's code.",
	}, labels("node", "reason"))
	m.shadowed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_shadow_runs_total", Help: "Copies of requests that a version has run as a shadow, by what became of them: agreed, differed, failed.",
	}, labels("outcome"))
	m.unshadowed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_shadow_dropped_total", Help: "Copies of requests for a shadow that came to nothing: there was no idle capacity (busy), too many waited (full), it was not loaded (missing), or the process ended (closing).",
	}, labels("reason"))
	m.fallbacks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_inference_fallbacks_total", Help: "Requests that a version refused for load and that has a fallback, by what became of them there: answered, failed, refused (it had no room either), missing (it is not loaded), unfit (it does not take and give the same, or not so many rows).",
	}, labels("outcome"))
	r.MustRegister(m.fallbacks, m.nodes, m.nodeErrors, m.shadowed, m.unshadowed, m.loads, m.queue, m.infer, m.encode, m.total, m.rows, m.refusals, m.isolated, m.unrouted)
	return m
}

// versionMetrics are the series of one version, looked up once.
type versionMetrics struct {
	queue, infer, encode, total, rows prometheus.Observer
	isolated                          prometheus.Counter
	refusals                          *prometheus.CounterVec
}

func (m *metrics) version(v *Version) versionMetrics {
	name, number := v.Name, v.Text
	return versionMetrics{
		queue: m.queue.WithLabelValues(name, number), infer: m.infer.WithLabelValues(name, number),
		encode: m.encode.WithLabelValues(name, number), total: m.total.WithLabelValues(name, number),
		rows: m.rows.WithLabelValues(name, number), isolated: m.isolated.WithLabelValues(name, number),
		refusals: m.refusals.MustCurryWith(prometheus.Labels{"model": name, "version": number}),
	}
}

// forget drops the series of a version that is no longer served.
func (m *metrics) forget(v *Version) {
	labels := prometheus.Labels{"model": v.Name, "version": v.Text}
	for _, h := range []*prometheus.HistogramVec{m.queue, m.infer, m.encode, m.total, m.rows} {
		h.DeletePartialMatch(labels)
	}
	m.nodes.DeletePartialMatch(labels)
	for _, c := range []*prometheus.CounterVec{m.nodeErrors, m.refusals, m.shadowed, m.unshadowed, m.fallbacks} {
		c.DeletePartialMatch(labels)
	}
	m.isolated.DeletePartialMatch(labels)
}

// succeeded counts an answered request and, where it is traced, records where
// its time went as spans.
func (v *Version) succeeded(ctx context.Context, start time.Time, c *call) {
	t := c.response.Timing
	total := time.Since(start)
	s := v.Stats
	s.LastInference.Store(start.Add(total).UnixMilli())
	s.Inferences.Add(int64(max(c.part.Rows, 1)))
	s.Success.Add(total)
	s.Queue.Add(t.Queue)
	s.ComputeInput.Add(t.Decode)
	s.ComputeInfer.Add(t.Infer)
	s.ComputeOutput.Add(t.Encode)
	m := &v.runtime.metrics
	m.queue.Observe(t.Queue.Seconds())
	m.infer.Observe(t.Infer.Seconds())
	m.encode.Observe(t.Encode.Seconds())
	m.total.Observe(total.Seconds())
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		v.recordSpans(ctx, span, start, t)
	}
	v.record(start, total, c, nil)
}

// recordSpans writes the stages of a finished request as child spans.
func (v *Version) recordSpans(ctx context.Context, parent trace.Span, start time.Time, t Timing) {
	parent.SetAttributes(
		attribute.String("sluice.model", v.Name), attribute.String("sluice.version", v.Text),
		attribute.Int("sluice.batch.rows", t.BatchRows))
	tracer := parent.TracerProvider().Tracer("sluice/serve")
	for _, stage := range []struct {
		name string
		took time.Duration
	}{{"decode", t.Decode}, {"queue", t.Queue}, {"batch", t.Infer}, {"encode", t.Encode}} {
		_, span := tracer.Start(ctx, stage.name, trace.WithTimestamp(start))
		start = start.Add(stage.took)
		span.End(trace.WithTimestamp(start))
	}
}

// refused counts a request that was not answered and returns its error.
func (v *Version) refused(ctx context.Context, start time.Time, c *call, err error) error {
	total := time.Since(start)
	v.Stats.Fail.Add(total)
	v.Stats.reason(fault.Of(err).Kind).Add(1)
	v.runtime.metrics.refusals.WithLabelValues(fault.CodeOf(err)).Inc()
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.RecordError(err)
	}
	v.record(start, total, c, err)
	return err
}

// reason returns the counter of a failure in the terms of Triton's metrics.
func (s *Stats) reason(k fault.Kind) *atomic.Int64 {
	switch k {
	case fault.Unavailable, fault.Exhausted, fault.DeadlineExceeded:
		return &s.Rejected
	case fault.Canceled:
		return &s.Canceled
	case fault.Internal:
		return &s.Broken
	}
	return &s.Wrong
}
