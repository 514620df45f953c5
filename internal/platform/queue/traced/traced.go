// Package traced carries traces through a queue: a span for each batch that is
// published, and one for each delivery that is handled, within the trace of who
// published the message.
//
//	q = traced.New(q, tracer)
//
// Spans are named queue.publish and queue.process. They carry the stream, the
// consumer, numbers, and the code of an error; never subjects, ids, tenants or
// contents.
//
// Known limits: reading streams and looking after dead letters is not traced.
// Messages that have a trace parent keep it, so that the trace of what caused an
// event goes on although a relay publishes it. A message without one grows by
// some 70 bytes, which count for the queue's limit. Times and numbers are
// measured by the queue itself (queue.Metrics).
package traced

import (
	"context"
	"maps"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// New returns the queue with traces. With a nil tracer, or noop's, it is the
// queue as it is.
func New(q queue.Queue, tracer trace.Tracer) queue.Queue {
	if _, off := tracer.(noop.Tracer); off || tracer == nil {
		return q
	}
	return &tracing{q, tracer}
}

type tracing struct {
	queue.Queue
	tracer trace.Tracer
}

// Publish publishes within a span. The caller's messages are left as they are.
func (t *tracing) Publish(ctx context.Context, messages ...queue.Message) error {
	ctx, span := t.tracer.Start(ctx, "queue.publish", trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	err := t.Queue.Publish(ctx, inject(ctx, messages)...)
	if span.IsRecording() {
		span.SetAttributes(attribute.Int("messaging.batch.message_count", len(messages)))
		failed(span, err)
	}
	return err
}

// inject gives messages without a trace parent that of ctx.
func inject(ctx context.Context, messages []queue.Message) []queue.Message {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	parent := carrier.Get(queue.HeaderTraceParent)
	if parent == "" {
		return messages
	}
	out := slices.Clone(messages)
	for i := range out {
		m := &out[i]
		if m.Header[queue.HeaderTraceParent] != "" {
			continue
		}
		header := make(queue.Header, len(m.Header)+1)
		maps.Copy(header, m.Header)
		header[queue.HeaderTraceParent] = parent
		m.Header = header
	}
	return out
}

// Consume handles each delivery within a span that is a child of the message's.
func (t *tracing) Consume(ctx context.Context, c queue.Consumer, handle queue.Handler) error {
	about := trace.WithAttributes(attribute.String("messaging.consumer.group.name", c.Name), attribute.String("messaging.destination.name", c.Stream))
	return t.Queue.Consume(ctx, c, func(ctx context.Context, d queue.Delivery) (err error) {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(d.Header))
		ctx, span := t.tracer.Start(ctx, "queue.process", trace.WithSpanKind(trace.SpanKindConsumer), about,
			trace.WithAttributes(attribute.Int("sluice.attempt", d.Attempt)))
		returned := false
		defer func() {
			if !returned {
				err = fault.New(fault.Internal, "the handler panicked").WithCode("panic")
			}
			failed(span, err)
			span.End()
		}()
		err = handle(ctx, d)
		returned = true
		return err
	})
}

// failed shows an error by its code.
func failed(span trace.Span, err error) {
	if err == nil {
		return
	}
	span.SetAttributes(attribute.String("error.type", fault.CodeOf(err)))
	span.SetStatus(codes.Error, "")
}
