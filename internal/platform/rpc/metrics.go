package rpc

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/telemetry"
)

// Metrics returns an observer that counts calls and measures how long they
// took; a stream counts once, with the time that it was open. The labels are
// bounded: observers hear only of methods that are registered, and a code that
// gRPC does not define counts as Unknown.
func Metrics(r prometheus.Registerer) (Observer, error) {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_grpc_calls_total", Help: "Calls ended, by method and status code.",
	}, []string{"method", "code"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "sluice_grpc_call_seconds", Help: "Time from a call's metadata to its status; of a stream, the time that it was open.",
		Buckets: telemetry.LatencyBuckets,
	}, []string{"method"})
	for _, c := range []prometheus.Collector{calls, seconds} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return func(_ context.Context, call Call) {
		code := call.Code
		if code > codes.Unauthenticated { // the last that gRPC defines
			code = codes.Unknown
		}
		calls.WithLabelValues(call.Method, code.String()).Inc()
		seconds.WithLabelValues(call.Method).Observe(call.Duration.Seconds())
	}, nil
}
