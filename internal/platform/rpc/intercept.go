package rpc

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"sluice/internal/platform/fault"
)

// unaryMethod returns the method with all that happens around it. It takes the
// place of an interceptor, which is only called once the message is there: who
// may not call must not have a message received either.
func (s *Server) unaryMethod(service string, m grpc.MethodDesc) grpc.MethodDesc {
	handle, full := m.Handler, "/"+service+"/"+m.MethodName
	m.Handler = func(srv any, ctx context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (resp any, err error) {
		ctx, end := s.begin(ctx, full, false)
		ctx, _, err = s.cfg.Gate.enter(ctx, full)
		if err != nil {
			return nil, end(err)
		}
		account := s.cfg.Memory.Account()
		defer account.Release()
		err = fault.Guard(func() (err error) {
			resp, err = handle(srv, ctx, func(v any) error { return s.receiveOnly(ctx, v, &account) }, nil)
			return err
		})
		return resp, end(err)
	}
	return m
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	receiver, err := s.receiver(stream.Context())
	ctx, end := s.begin(stream.Context(), info.FullMethod, true)
	if err != nil {
		return end(err)
	}
	ctx, admitted, err := s.cfg.Gate.enter(ctx, info.FullMethod)
	if err != nil {
		return end(err)
	}
	return end(fault.Guard(func() error {
		return handle(srv, &countedStream{ServerStream: stream, ctx: ctx, receiver: receiver, admitted: admitted})
	}))
}

// countedStream is a stream whose messages are received here, and which ends
// with its caller's credential.
type countedStream struct {
	grpc.ServerStream
	ctx      context.Context //nolint:containedctx // of one call: a grpc.ServerStream carries its context
	receiver *receiver
	admitted pass
	begun    bool // a message was received
}

func (s *countedStream) Context() context.Context { return s.ctx }

func (s *countedStream) RecvMsg(v any) error {
	account := s.receiver.server.cfg.Memory.Account()
	defer account.Release()
	err := s.receiver.next(v, &account)
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err == nil {
		err = s.admitted.holds(s.ctx)
	}
	if err == nil && s.begun {
		err = s.admitted.take(s.ctx)
	}
	s.begun = true
	return Status(err).Err()
}

func (s *countedStream) SendMsg(v any) error {
	if err := s.admitted.holds(s.ctx); err != nil {
		return Status(err).Err()
	}
	return s.ServerStream.SendMsg(v)
}

// begin does what every call starts with, and returns what it ends with: a
// function that maps the service's error, once, and tells the observers.
func (s *Server) begin(ctx context.Context, method string, stream bool) (context.Context, func(error) error) {
	start := time.Now()
	info := &callContext{Context: ctx, requestID: s.requestID(ctx), draining: s.draining}
	ctx = info
	// It fails only outside a call or after the headers, so not here.
	_ = grpc.SetHeader(ctx, metadata.MD{requestIDKey: {info.requestID}})
	ctx, span := s.startSpan(ctx, method)
	return ctx, func(err error) error {
		st := Status(err)
		call := Call{
			Method: method, RequestID: info.requestID, Stream: stream,
			Duration: time.Since(start), Code: st.Code(), Err: err,
		}
		for _, observe := range s.cfg.Observers {
			observe(ctx, call)
		}
		endSpan(span, call)
		return st.Err()
	}
}

// startSpan starts the call's span under the caller's, and returns a nil span
// where tracing is off.
func (s *Server) startSpan(ctx context.Context, method string) (context.Context, trace.Span) {
	if s.cfg.Tracer == nil {
		return ctx, nil
	}
	ctx = propagation.TraceContext{}.Extract(ctx, incomingOf(ctx))
	return s.cfg.Tracer.Start(ctx, method[1:], trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("rpc.system", "grpc")))
}

func endSpan(span trace.Span, call Call) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(call.Code)), attribute.String("request_id", call.RequestID))
	switch call.Code {
	case codes.Internal, codes.Unknown, codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented, codes.DataLoss:
		span.SetStatus(otelcodes.Error, call.Code.String())
	}
	span.End()
}

// incoming is a call's metadata as the propagator reads it.
type incoming metadata.MD

func incomingOf(ctx context.Context) incoming {
	md, _ := metadata.FromIncomingContext(ctx)
	return incoming(md)
}

func (c incoming) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (incoming) Set(string, string) {} // an incoming call's metadata is read only

func (c incoming) Keys() []string { return slices.Collect(maps.Keys(c)) }
