package rpc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"sluice/internal/platform/fault"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	observer, err := Metrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := []error{
		nil, nil, fault.New(fault.Unavailable, "full"), errors.New("no fault"), status.Error(codes.Code(4711), "invented"), status.Error(codes.Code(4712), "another"),
	}
	r := start(t, Config{Observers: []Observer{observer}}, func(context.Context, *healthpb.HealthCheckRequest) error {
		outcome := outcomes[0]
		outcomes = outcomes[1:]
		return outcome
	})
	for range len(outcomes) {
		_ = r.call(t.Context()) // what the client sees is another test's
	}
	// A client must not be able to make series.
	for _, method := range []string{"/test.Echo/None", "/none/None", "/x"} {
		if err := r.conn.Invoke(t.Context(), method, new(healthpb.HealthCheckRequest), new(healthpb.HealthCheckResponse)); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
	stream, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	r.stop()          // ends the stream, too
	err = <-r.stopped // every call has been observed
	if r.stopped <- err; err != nil {
		t.Fatal(err)
	}
	want := `# HELP sluice_grpc_calls_total Calls ended, by method and status code.
# TYPE sluice_grpc_calls_total counter
sluice_grpc_calls_total{code="Unavailable",method="/grpc.health.v1.Health/Watch"} 1
sluice_grpc_calls_total{code="Internal",method="/test.Echo/Call"} 1
sluice_grpc_calls_total{code="OK",method="/test.Echo/Call"} 2
sluice_grpc_calls_total{code="Unavailable",method="/test.Echo/Call"} 1
sluice_grpc_calls_total{code="Unknown",method="/test.Echo/Call"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sluice_grpc_calls_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(registry, "sluice_grpc_call_seconds"); n != 2 {
		t.Errorf("%d histograms, expected one for each of 2 methods", n)
	}
	if _, err := Metrics(registry); !fault.Is(err, fault.Internal) {
		t.Errorf("registered twice: %v", err)
	}
}

func TestMetricsAllocateNothing(t *testing.T) {
	observer, err := Metrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	call := Call{Method: "/test.Echo/Call", Duration: time.Millisecond}
	if n := testing.AllocsPerRun(100, func() { observer(t.Context(), call) }); n > 0 {
		t.Errorf("%v allocations per call, expected none", n)
	}
}
