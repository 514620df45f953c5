package traced_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/queue/queuetest"
	"sluice/internal/platform/queue/traced"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func recorder() (*tracetest.InMemoryExporter, trace.Tracer) {
	e := tracetest.NewInMemoryExporter()
	return e, sdktrace.NewTracerProvider(sdktrace.WithSyncer(e)).Tracer("test")
}

func memory(t testing.TB) queue.Queue {
	q, err := memqueue.New(memqueue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// quiet makes spans without an identity, so that headers stay as they are: the
// contract compares them.
type quiet struct{ noop.Tracer }

// A traced queue is as good a queue as the one within.
func TestContract(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Env {
		return queuetest.Env{Queue: traced.New(memory(t), quiet{})}
	})
}

const secretive = "canary"

// consume hands the messages of the stream to handle until it has said stop.
func consume(t *testing.T, q queue.Queue, handle func(context.Context, queue.Delivery, func()) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := queue.Consumer{Name: "worker", Stream: "S", MaxAttempts: 2, Backoff: queue.Backoff{Min: time.Millisecond, Max: time.Millisecond}}
	if err := q.Consume(ctx, c, func(ctx context.Context, d queue.Delivery) error { return handle(ctx, d, stop) }); err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T) (queue.Queue, *tracetest.InMemoryExporter, trace.Tracer) {
	t.Helper()
	exporter, tracer := recorder()
	q := traced.New(memory(t), tracer)
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s.*"}, Retention: queue.Work}); err != nil {
		t.Fatal(err)
	}
	return q, exporter, tracer
}

func span(t *testing.T, e *tracetest.InMemoryExporter, name string) tracetest.SpanStub {
	t.Helper()
	for _, s := range e.GetSpans() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no span %s in %v", name, e.GetSpans())
	return tracetest.SpanStub{}
}

// One trace leads from who publishes through the queue into the handler.
func TestATraceGoesThroughTheQueue(t *testing.T) {
	q, exporter, tracer := opened(t)
	ctx, root := tracer.Start(t.Context(), "root")
	header := queue.Header{"tenant": secretive}
	if err := q.Publish(ctx, queue.Message{ID: secretive, Subject: "s." + secretive, Header: header, Data: []byte(secretive)}); err != nil {
		t.Fatal(err)
	}
	root.End()
	if len(header) != 1 {
		t.Errorf("the caller's header was changed: %v", header)
	}
	consume(t, q, func(ctx context.Context, d queue.Delivery, stop func()) error {
		defer stop()
		_, inner := tracer.Start(ctx, "inner")
		inner.End()
		if d.Header["tenant"] != secretive {
			t.Errorf("the header is %v", d.Header)
		}
		return nil
	})
	publish, process, inner := span(t, exporter, "queue.publish"), span(t, exporter, "queue.process"), span(t, exporter, "inner")
	for i, s := range []tracetest.SpanStub{span(t, exporter, "root"), publish, process} {
		child := []tracetest.SpanStub{publish, process, inner}[i]
		if child.Parent.SpanID() != s.SpanContext.SpanID() || child.SpanContext.TraceID() != s.SpanContext.TraceID() {
			t.Errorf("%s is not a child of %s", child.Name, s.Name)
		}
	}
	if publish.SpanKind != trace.SpanKindProducer || process.SpanKind != trace.SpanKindConsumer || !process.Parent.IsRemote() {
		t.Errorf("the kinds are %s and %s", publish.SpanKind, process.SpanKind)
	}
	if text := fmt.Sprint(publish.Attributes, process.Attributes); strings.Contains(text, secretive) || !strings.Contains(text, "worker") {
		t.Errorf("the attributes are %s", text)
	}
}

// A message that has a trace keeps it, whoever publishes it.
func TestATraceParentIsKept(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	q, exporter, tracer := opened(t)
	ctx, relay := tracer.Start(t.Context(), "relay")
	defer relay.End()
	if err := q.Publish(ctx, queue.Message{ID: "1", Subject: "s.a", Header: queue.Header{queue.HeaderTraceParent: parent}}); err != nil {
		t.Fatal(err)
	}
	consume(t, q, func(_ context.Context, d queue.Delivery, stop func()) error {
		defer stop()
		if d.Header[queue.HeaderTraceParent] != parent {
			t.Errorf("the trace parent is %q", d.Header[queue.HeaderTraceParent])
		}
		return nil
	})
	if got := span(t, exporter, "queue.process"); got.SpanContext.TraceID().String() != parent[3:35] || got.Parent.SpanID().String() != parent[36:52] {
		t.Errorf("handled in trace %s", got.SpanContext.TraceID())
	}
}

func TestErrorsAreShownByTheirCode(t *testing.T) {
	q, exporter, _ := opened(t)
	if err := q.Publish(t.Context(), queue.Message{ID: "1", Subject: "elsewhere"}); err == nil {
		t.Fatal("a subject without a stream was taken")
	}
	if s := span(t, exporter, "queue.publish"); s.Status.Code != codes.Error {
		t.Errorf("publishing: %+v", s.Status)
	}
	for name, c := range map[string]struct {
		fail func() error
		code string
	}{
		"unclassified": {func() error { return errors.New(secretive) }, "internal"},
		"fault":        {func() error { return fault.New(fault.Invalid, secretive).WithCode("bad_thing") }, "bad_thing"},
		"panic":        {func() error { panic(secretive) }, "panic"},
	} {
		exporter.Reset()
		if err := q.Publish(t.Context(), queue.Message{ID: name, Subject: "s.a"}); err != nil {
			t.Fatal(err)
		}
		consume(t, q, func(_ context.Context, d queue.Delivery, stop func()) error {
			if d.ID == name {
				if d.Attempt == 2 || c.code == "bad_thing" {
					stop()
				}
				return c.fail()
			}
			return nil
		})
		s := span(t, exporter, "queue.process")
		if text := fmt.Sprint(s.Attributes, s.Events, s.Status); s.Status.Code != codes.Error || !strings.Contains(text, c.code) || strings.Contains(text, secretive) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestOffIsTheQueueItself(t *testing.T) {
	inner := memory(t)
	for _, off := range []trace.Tracer{nil, noop.Tracer{}} {
		if traced.New(inner, off) != inner {
			t.Error("a queue without traces is wrapped")
		}
	}
}
