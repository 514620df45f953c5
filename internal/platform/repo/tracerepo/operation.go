package tracerepo

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/platform/fault"
)

// operations are all kinds of calls to a store.
type operations struct {
	get, find, summarise, history, commit        *operation
	pending, published, republish, trim, backlog *operation
	migrate, purge, ping                         *operation
}

func newOperations(tracer trace.Tracer, r prometheus.Registerer) (*operations, error) {
	var seconds *prometheus.HistogramVec
	if r != nil {
		seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_repo_seconds", Help: "Time of calls to the store, by operation and the kind of error, ok for none.",
			Buckets: []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"operation", "outcome"})
		if err := r.Register(seconds); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric of the store cannot be registered")
		}
	}
	op := func(name string, polled bool) *operation {
		o := &operation{name: "repo." + name, polled: polled, tracer: tracer}
		if seconds != nil {
			o.seconds = seconds.MustCurryWith(prometheus.Labels{"operation": name})
			o.ok = o.seconds.WithLabelValues("ok")
		}
		return o
	}
	return &operations{
		get: op("get", false), find: op("find", false), summarise: op("summarise", false), history: op("history", false), commit: op("commit", false),
		pending: op("pending", true), published: op("published", true), republish: op("republish", true), trim: op("trim", true), backlog: op("backlog", true),
		migrate: op("migrate", false), purge: op("purge", true), ping: op("ping", true),
	}, nil
}

// operation is one kind of call.
type operation struct {
	name    string
	polled  bool         // called all the time, so that it begins no trace
	tracer  trace.Tracer // nil: none
	seconds prometheus.ObserverVec
	ok      prometheus.Observer // nil: not measured
}

// call is one call that runs.
type call struct {
	op    *operation
	span  trace.Span // nil: none
	began time.Time
}

func (o *operation) begin(ctx context.Context, kind string) (context.Context, call) {
	c := call{op: o}
	if o.tracer != nil && (!o.polled || trace.SpanContextFromContext(ctx).IsValid()) {
		ctx, c.span = o.tracer.Start(ctx, o.name, trace.WithSpanKind(trace.SpanKindClient))
		if !c.span.IsRecording() {
			c.span = nil
		} else if kind != "" {
			c.span.SetAttributes(attribute.String("sluice.kind", kind))
		}
	}
	if o.ok != nil {
		c.began = time.Now()
	}
	return ctx, c
}

func (c call) count(name string, n int) {
	if c.span != nil {
		c.span.SetAttributes(attribute.Int(name, n))
	}
}

func (c call) end(err error) {
	if c.op.ok != nil {
		took := time.Since(c.began).Seconds()
		if err == nil {
			c.op.ok.Observe(took)
		} else {
			c.op.seconds.WithLabelValues(fault.Of(err).Kind.String()).Observe(took)
		}
	}
	if c.span == nil {
		return
	}
	if err != nil {
		c.span.SetAttributes(attribute.String("error.type", fault.CodeOf(err)))
		switch fault.Of(err).Kind {
		case fault.Internal, fault.Unavailable, fault.DeadlineExceeded:
			c.span.SetStatus(codes.Error, "")
		}
	}
	c.span.End()
}
