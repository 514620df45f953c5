package resilience

import (
	"errors"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// metrics are those of one policy.
type metrics struct {
	calls      *prometheus.CounterVec // by outcome
	ok         prometheus.Counter
	retries    prometheus.Counter
	fallbacks  prometheus.Counter
	rejections *prometheus.CounterVec // by reason
	state      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, policy string) (*metrics, error) {
	label := prometheus.Labels{"policy": policy}
	counter := func(name, help string, labels ...string) (*prometheus.CounterVec, error) {
		v, err := shared(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"policy"}, labels...)))
		if err != nil {
			return nil, err
		}
		return v.CurryWith(label)
	}
	calls, err1 := counter("sluice_outgoing_calls_total", "Guarded calls, by the kind of error, ok for none.", "outcome")
	retries, err2 := counter("sluice_outgoing_retries_total", "Attempts that were not a call's first.")
	fallbacks, err3 := counter("sluice_outgoing_fallbacks_total", "Calls that fell back on something else.")
	rejections, err4 := counter("sluice_outgoing_rejections_total", "What a policy refused: circuit_open, bulkhead_full, retry_budget.", "reason")
	state, err5 := shared(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_outgoing_circuit_state", Help: "0 closed, 1 half open, 2 open; an open circuit half opens with the next call.",
	}, []string{"policy"}))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the metrics of policy %s cannot be registered", policy)
	}
	return &metrics{calls, calls.WithLabelValues("ok"), retries.WithLabelValues(), fallbacks.WithLabelValues(), rejections, state.With(label)}, nil
}

// shared registers the collector, or returns the one that another policy has
// registered before.
func shared[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	if r == nil {
		return c, nil
	}
	err := r.Register(c)
	if e, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, same := e.ExistingCollector.(C); same {
			return existing, nil
		}
	}
	return c, err
}

func (m *metrics) called(err error) {
	if err == nil {
		m.ok.Inc()
		return
	}
	m.calls.WithLabelValues(fault.Of(err).Kind.String()).Inc()
}

func (m *metrics) rejected(reason string) { m.rejections.WithLabelValues(reason).Inc() }

func (m *metrics) changed(s circuitbreaker.State) {
	switch s {
	case circuitbreaker.ClosedState:
		m.state.Set(0)
	case circuitbreaker.HalfOpenState:
		m.state.Set(1)
	case circuitbreaker.OpenState:
		m.state.Set(2)
	}
}
