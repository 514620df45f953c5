package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echoDesc is a service whose one method calls the function that implements it.
// Its messages are health requests and responses, which any will do for.
var echoDesc = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		req := new(healthpb.HealthCheckRequest)
		if err := dec(req); err != nil {
			return nil, err
		}
		return new(healthpb.HealthCheckResponse), srv.(func(context.Context, *healthpb.HealthCheckRequest) error)(ctx, req)
	}}},
}

type running struct {
	conn    *grpc.ClientConn
	stop    context.CancelFunc
	stopped chan error
}

func start(t *testing.T, cfg Config, echo func(context.Context, *healthpb.HealthCheckRequest) error) *running {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.RegisterService(&echoDesc, echo)
	listener := bufconn.Listen(1 << 16)
	conn, err := grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{conn: conn, stop: cancel, stopped: make(chan error, 1)}
	go func() { r.stopped <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		<-r.stopped
	})
	return r
}

func (r *running) call(ctx context.Context, opts ...grpc.CallOption) error {
	return r.conn.Invoke(ctx, "/test.Echo/Call", new(healthpb.HealthCheckRequest), new(healthpb.HealthCheckResponse), opts...)
}

func fine(context.Context, *healthpb.HealthCheckRequest) error { return nil }

func TestStatusOfEachKind(t *testing.T) {
	for kind, want := range map[fault.Kind]codes.Code{
		fault.Internal: codes.Internal, fault.Invalid: codes.InvalidArgument, fault.NotFound: codes.NotFound,
		fault.Conflict: codes.FailedPrecondition, fault.Unsupported: codes.Unimplemented, fault.TooLarge: codes.InvalidArgument,
		fault.Unauthenticated: codes.Unauthenticated, fault.PermissionDenied: codes.PermissionDenied, fault.Exhausted: codes.ResourceExhausted,
		fault.Unavailable: codes.Unavailable, fault.DeadlineExceeded: codes.DeadlineExceeded, fault.Canceled: codes.Canceled, fault.Kind(200): codes.Internal,
	} {
		st := Status(fmt.Errorf("wrapped: %w", fault.Wrap(kind, errors.New("secret"), "told")))
		if st.Code() != want || st.Message() != "told" {
			t.Errorf("%s: %v, want %s", kind, st, want)
		}
	}
	for err, want := range map[error]codes.Code{
		nil: codes.OK, errors.New("secret"): codes.Internal, context.Canceled: codes.Canceled,
		context.DeadlineExceeded: codes.DeadlineExceeded, status.Error(codes.DataLoss, "x"): codes.DataLoss,
	} {
		if st := Status(err); st.Code() != want || strings.Contains(st.Message(), "secret") {
			t.Errorf("%v: %v, want %s", err, st, want)
		}
	}
}

func TestStatusDetails(t *testing.T) {
	details := Status(fault.New(fault.Unavailable, "full").WithCode("queue_full").WithRetryAfter(1500 * time.Millisecond)).Details()
	if len(details) != 2 {
		t.Fatalf("details %v", details)
	}
	if info := details[0].(*errdetails.ErrorInfo); info.GetReason() != "queue_full" || info.GetDomain() != "sluice" {
		t.Error(info)
	}
	if retry := details[1].(*errdetails.RetryInfo); retry.GetRetryDelay().AsDuration() != 1500*time.Millisecond {
		t.Error(retry)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"MaxMessageBytes": {MaxMessageBytes: -1}, "MaxConnections": {MaxConnections: 1 << 40}, "MaxConcurrentStreams": {MaxConcurrentStreams: -5},
		"MaxHeaderBytes": {MaxHeaderBytes: -1}, "DrainTimeout": {DrainTimeout: -time.Second}, "KeepaliveTime": {KeepaliveTime: -1},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestIDs(t *testing.T) {
	var seen string
	r := start(t, Config{NewID: func() string { return "made" }}, func(ctx context.Context, _ *healthpb.HealthCheckRequest) error {
		seen = telemetry.RequestID(ctx)
		return nil
	})
	for given, want := range map[string]string{"a-1": "a-1", "": "made", "with space": "made", strings.Repeat("x", 129): "made", strings.Repeat("x", 128): strings.Repeat("x", 128)} {
		var header metadata.MD
		if err := r.call(metadata.AppendToOutgoingContext(t.Context(), "x-request-id", given), grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
		if got := header.Get("x-request-id"); seen != want || len(got) != 1 || got[0] != want {
			t.Errorf("given %q: service saw %q, client %q, want %q", given, seen, got, want)
		}
	}
	if telemetry.RequestID(t.Context()) != "" || Draining(t.Context()) != nil {
		t.Error("outside a call there is neither an id nor a drain")
	}
}

func TestPanicsAndObservers(t *testing.T) {
	var call Call
	var log strings.Builder
	fail := error(nil)
	r := start(t, Config{Observers: []Observer{
		func(_ context.Context, c Call) { call = c },
		AccessLog(slog.New(slog.NewTextHandler(&log, nil))),
	}}, func(context.Context, *healthpb.HealthCheckRequest) error {
		if fail == nil {
			panic("boom")
		}
		return fail
	})
	err := r.call(t.Context())
	if st := status.Convert(err); st.Code() != codes.Internal || st.Message() != "internal error" {
		t.Errorf("client saw %v", err)
	}
	if call.Method != "/test.Echo/Call" || call.Code != codes.Internal || !strings.Contains(call.Err.Error(), "boom") || call.RequestID == "" || call.Stream {
		t.Errorf("observer heard %+v", call)
	}
	if !strings.Contains(log.String(), "panic: boom") || !strings.Contains(log.String(), "rpc_test.go") {
		t.Errorf("log %q has not the panic and its place", log.String())
	}
	log.Reset()
	fail = fault.New(fault.NotFound, "nowhere")
	if err := r.call(t.Context()); status.Code(err) != codes.NotFound || log.Len() > 0 {
		t.Errorf("a client's mistake: %v, log %q", err, log.String())
	}
}

func TestTracesContinueTheCallers(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	r := start(t, Config{Tracer: provider.Tracer("test")}, func(context.Context, *healthpb.HealthCheckRequest) error {
		return fault.New(fault.Unavailable, "full")
	})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if err := r.call(ctx); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Name() != "test.Echo/Call" || ended[0].SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" ||
		ended[0].Parent().SpanID().String() != "b7ad6b7169203331" || ended[0].Status().Description != "Unavailable" {
		t.Errorf("spans %v", ended)
	}
}

func TestHealth(t *testing.T) {
	ready := true
	r := start(t, Config{Ready: func() bool { return ready }}, fine)
	client := healthpb.NewHealthClient(r.conn)
	check := func(service string, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != want {
			t.Errorf("%q: %v, %v", service, got, err)
		}
	}
	check("", healthpb.HealthCheckResponse_SERVING)
	check("test.Echo", healthpb.HealthCheckResponse_SERVING)
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("unknown service: %v", err)
	}
	all, err := client.List(t.Context(), &healthpb.HealthListRequest{})
	if err != nil || len(all.GetStatuses()) != 3 {
		t.Errorf("list: %v, %v", all, err)
	}
	ready = false
	check("", healthpb.HealthCheckResponse_NOT_SERVING)

	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch: %v, %v", got, err)
	}
	r.stop()
	for err = nil; err == nil; _, err = watch.Recv() {
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("at the stop the watch ended with %v", err)
	}
}

func TestReflection(t *testing.T) {
	for _, on := range []bool{true, false} {
		r := start(t, Config{Reflection: on}, fine)
		stream, err := reflectionpb.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		_, err = stream.Recv()
		if (err == nil) != on {
			t.Errorf("reflection %t: %v", on, err)
		}
		_ = stream.CloseSend()
	}
}

func TestServeDrainsAndThenCuts(t *testing.T) {
	entered := make(chan struct{})
	finish := make(chan struct{})
	r := start(t, Config{}, func(ctx context.Context, _ *healthpb.HealthCheckRequest) error {
		close(entered)
		<-Draining(ctx)
		<-finish
		return nil
	})
	answered := make(chan error, 1)
	go func() { answered <- r.call(context.Background()) }()
	<-entered
	r.stop()
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the call in progress got %v", err)
	}
	if err := <-r.stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	r.stopped <- nil

	stuck := make(chan struct{})
	r = start(t, Config{DrainTimeout: 20 * time.Millisecond}, func(ctx context.Context, _ *healthpb.HealthCheckRequest) error {
		close(stuck)
		<-ctx.Done()
		return ctx.Err()
	})
	go func() { answered <- r.call(context.Background()) }()
	<-stuck
	r.stop()
	if err := <-r.stopped; !fault.Is(err, fault.DeadlineExceeded) {
		t.Errorf("Serve with a call that does not end: %v", err)
	}
	r.stopped <- nil
	if err := <-answered; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("the cut call got %v", err)
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	if err := s.Serve(t.Context(), listener); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	r := start(t, Config{MaxHeaderBytes: 4096}, fine)
	if err := r.call(metadata.AppendToOutgoingContext(t.Context(), "junk", strings.Repeat("x", 8192))); err == nil {
		t.Error("8 KiB of metadata were taken with a limit of 4 KiB")
	}
	if err := r.call(t.Context()); err != nil {
		t.Errorf("a call after it: %v", err)
	}
}

func TestDeflateRefusesGarbageAndRecovers(t *testing.T) {
	for range 3 {
		if d, err := (deflate{}).Decompress(strings.NewReader("not zlib")); err == nil {
			if _, err := io.ReadAll(d); err == nil {
				t.Error("garbage was decompressed")
			}
		}
		var packed strings.Builder
		w, err := (deflate{}).Compress(&packed)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, "hello")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := (deflate{}).Decompress(strings.NewReader(packed.String()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(d); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		d, _ = (deflate{}).Decompress(strings.NewReader(packed.String()[:packed.Len()-5]))
		if _, err := io.ReadAll(d); err == nil {
			t.Error("a stream cut short was taken as whole")
		}
	}
}
