package web

import (
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/telemetry"
)

// metrics are the guard's. Their labels are bounded by the registered routes;
// counters are bound to their labels once, so that counting allocates nothing.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	panics   prometheus.Counter
	routes   map[routeKey]*route
	other    *route // what matches no route
}

type routeKey struct{ method, path string }

// route counts one route's requests.
type route struct {
	routeKey
	seconds prometheus.Observer
	codes   [600 - 100]atomic.Pointer[prometheus.Counter] // by status, bound at first use
}

func newMetrics(r prometheus.Registerer, inFlight *atomic.Int64) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_http_requests_total", Help: "Requests answered, by method, route and status.",
		}, []string{"method", "route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_http_request_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: telemetry.LatencyBuckets,
		}, []string{"method", "route"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_http_refused_total", Help: "Requests refused before their handler, by reason.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_http_panics_total", Help: "Handlers that panicked.",
		}),
		routes: map[routeKey]*route{},
	}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_http_in_flight", Help: "Requests being served.",
	}, func() float64 { return float64(inFlight.Load()) })
	for _, reason := range []string{"in_flight", "body_too_large"} {
		m.refused.WithLabelValues(reason)
	}
	return m, register(r, m.requests, m.seconds, m.refused, m.panics, gauge)
}

// addRoutes binds the registered routes. It is called once, before serving.
func (m *metrics) addRoutes(routes []*echo.Route) {
	for _, r := range routes {
		key := routeKey{r.Method, r.Path}
		if knownMethod(r.Method) && m.routes[key] == nil {
			m.routes[key] = m.newRoute(key)
		}
	}
	m.other = m.newRoute(routeKey{"other", "other"})
}

func (m *metrics) newRoute(key routeKey) *route {
	return &route{routeKey: key, seconds: m.seconds.WithLabelValues(key.method, key.path)}
}

// route returns the counters of a request that was routed to path.
func (m *metrics) route(method, path string) *route {
	if r := m.routes[routeKey{method, path}]; r != nil {
		return r
	}
	return m.other
}

// count counts one answer.
func (m *metrics) count(r *route, status int, seconds float64) {
	r.seconds.Observe(seconds)
	if status < 100 || status > 599 {
		status = http.StatusInternalServerError
	}
	bound := &r.codes[status-100]
	c := bound.Load()
	if c == nil {
		fresh := m.requests.WithLabelValues(r.method, r.path, strconv.Itoa(status))
		c = &fresh
		bound.Store(c)
	}
	(*c).Inc()
}

func knownMethod(method string) bool {
	return slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, method)
}

func register(r prometheus.Registerer, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return nil
}
