package serve

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector serves the metric names that Triton's dashboards expect, and the
// batchers' gauges, from counters that are kept anyway.
type collector struct{ s *Server }

var (
	byVersion = []string{"model", "version"}
	success   = describe("nv_inference_request_success", "Requests answered.")
	failure   = describe("nv_inference_request_failure", "Requests not answered.", "reason")
	count     = describe("nv_inference_count", "Rows answered.")
	execution = describe("nv_inference_exec_count", "Runs of the model.")
	pending   = describe("nv_inference_pending_request_count", "Requests in the server.")
	request   = describe("nv_inference_request_duration_us", "Cumulative time of answered requests, in microseconds.")
	queue     = describe("nv_inference_queue_duration_us", "Cumulative time in the queue, in microseconds.")
	input     = describe("nv_inference_compute_input_duration_us", "Cumulative time to decode inputs, in microseconds.")
	infer     = describe("nv_inference_compute_infer_duration_us", "Cumulative time in the model, in microseconds.")
	output    = describe("nv_inference_compute_output_duration_us", "Cumulative time to encode outputs, in microseconds.")
	queued    = describe("sluice_inference_queue_requests", "Requests waiting in the batcher.")
	running   = describe("sluice_inference_running_rows", "Rows in runs now.")
	gaveWay   = describe("sluice_inference_interrupted_runs_total", "Runs told to end before a light tenant's request, and repeated.")
	ready     = describe("sluice_model_ready", "1 for a version that serves, 0 for one that was refused, is being loaded or was unloaded.")
)

var (
	demanded  = prometheus.NewDesc("sluice_model_demand_bytes", "Memory of the versions that were loaded on demand, by measure.", nil, nil)
	loadedNow = prometheus.NewDesc("sluice_model_demand_loaded", "Versions that were loaded on demand and are not unloaded.", nil, nil)
)

// held returns the memory of all loaded offers, in bytes, and their number.
func (s *Server) held() (bytes int64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.models {
		for _, o := range m.offers {
			if o.live != nil {
				bytes, n = bytes+o.size, n+1
			}
		}
	}
	return bytes, n
}

func describe(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, slices.Concat(byVersion, more), nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{success, failure, count, execution, pending, request, queue, input, infer, output, queued, running, gaveWay, ready, demanded, loadedNow} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	held, n := c.s.held()
	ch <- prometheus.MustNewConstMetric(demanded, prometheus.GaugeValue, float64(held))
	ch <- prometheus.MustNewConstMetric(loadedNow, prometheus.GaugeValue, float64(n))
	for _, e := range c.s.Index() {
		up := 0.0
		if e.State == Ready {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(ready, prometheus.GaugeValue, up, e.Name, e.Version)
	}
	for _, name := range c.s.Names() {
		versions, err := c.s.Versions(name)
		if err != nil {
			continue // unloaded in the meantime
		}
		for _, v := range versions {
			v.collect(ch)
		}
	}
}

func (v *Version) collect(ch chan<- prometheus.Metric) {
	emit := func(d *prometheus.Desc, t prometheus.ValueType, value float64, more ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, value, append([]string{v.Name, v.Text}, more...)...)
	}
	s := v.Stats
	micros := func(d *Duration) float64 { return float64(d.Nanos.Load()) / float64(time.Microsecond) }
	emit(success, prometheus.CounterValue, float64(s.Success.Count.Load()))
	emit(count, prometheus.CounterValue, float64(s.Inferences.Load()))
	emit(execution, prometheus.CounterValue, float64(s.Executions.Load()))
	emit(pending, prometheus.GaugeValue, float64(s.Pending.Load()))
	emit(request, prometheus.CounterValue, micros(&s.Success))
	emit(queue, prometheus.CounterValue, micros(&s.Queue))
	emit(input, prometheus.CounterValue, micros(&s.ComputeInput))
	emit(infer, prometheus.CounterValue, micros(&s.ComputeInfer))
	emit(output, prometheus.CounterValue, micros(&s.ComputeOutput))
	for reason, n := range map[string]int64{
		"REJECTED": s.Rejected.Load(), "CANCELED": s.Canceled.Load(), "BACKEND": s.Broken.Load(), "OTHER": s.Wrong.Load(),
	} {
		emit(failure, prometheus.CounterValue, float64(n), reason)
	}
	if v.runtime.batcher == nil {
		return // not loaded, or a graph
	}
	b := v.runtime.batcher.Stats()
	emit(queued, prometheus.GaugeValue, float64(b.Queued))
	emit(running, prometheus.GaugeValue, float64(b.RunningRows))
	emit(gaveWay, prometheus.CounterValue, float64(b.Interrupted))
}
