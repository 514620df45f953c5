package job

import (
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// Limits bounds how much may wait to be run; the zero value has defaults.
type Limits struct {
	Queued       int // predictions of all tenants; default 100,000
	TenantQueued int // of one tenant; default 20,000
	// Wait is how long a tenant's predictions may wait, whether the oldest has or the next
	// would, at the rate at which they leave. Default 1 hour.
	Wait time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Queued <= 0 {
		l.Queued = 100_000
	}
	if l.TenantQueued <= 0 {
		l.TenantQueued = 20_000
	}
	if l.Wait <= 0 {
		l.Wait = time.Hour
	}
	return l
}

// The codes of refusals.
const (
	codeFull       = "predictions_full"
	codeTenantFull = "tenant_predictions_full"
	codeSlow       = "predictions_too_slow"
)

// Admit refuses a new prediction of a tenant where too many wait already, with
// fault.Unavailable and when to try again. It reads nothing from the store: ask before
// anything of the prediction is kept. Predictions that are admitted at the same moment may
// exceed a limit together.
func (b *Backlog) Admit(tenant string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of[tenant]
	if s == nil {
		s = &standing{}
	}
	switch wait := s.wait(b.store.Now()); {
	case b.all.queued >= b.limits.Queued:
		return b.refuse(codeFull, b.all.until(b.limits.Queued), "%d durable predictions wait to be run, as many as this server keeps", b.all.queued)
	case s.queued >= b.limits.TenantQueued:
		return b.refuse(codeTenantFull, s.until(b.limits.TenantQueued), "%d durable predictions of this tenant wait to be run, as many as are kept", s.queued)
	case wait > b.limits.Wait:
		return b.refuse(codeSlow, wait-b.limits.Wait*9/10, "durable predictions of this tenant wait for %s, longer than %s", wait.Round(time.Second), b.limits.Wait)
	}
	return nil
}

// wait is how long the oldest has waited, or the next would.
func (s *standing) wait(now time.Time) (d time.Duration) {
	if !s.oldest.IsZero() {
		d = now.Sub(s.oldest)
	}
	if s.rate > 0 && s.queued >= busy {
		d = max(d, seconds(float64(s.queued)/s.rate))
	}
	return d
}

// until is how long it takes until a tenth of the limit is free, zero where the rate is
// not known.
func (s *standing) until(limit int) time.Duration {
	if s.rate <= 0 {
		return 0
	}
	return seconds((float64(s.queued) - 0.9*float64(limit)) / s.rate)
}

// Bounds of when refused clients may come again, and the time where none is known. Each is
// told a moment of its own, so that they do not all come at once.
const (
	soonest = time.Second
	latest  = 5 * time.Minute
	unknown = 15 * time.Second
)

// refuse returns and counts a refusal.
func (b *Backlog) refuse(code string, after time.Duration, format string, args ...any) error {
	b.metrics.refused.WithLabelValues(code).Inc()
	if after <= 0 {
		after = unknown
	}
	after = min(max(after, soonest), latest)
	return fault.New(fault.Unavailable, format+": send the same request again after as long as Retry-After says", args...).
		WithCode(code).WithRetryAfter(after + rand.N(after/4))
}

// seconds returns a number of seconds as a duration, bounded so that it does not overflow.
func seconds(s float64) time.Duration {
	const most = float64(365 * 24 * time.Hour / time.Second)
	return time.Duration(min(max(s, 0), most) * float64(time.Second))
}

type backlogMetrics struct{ refused *prometheus.CounterVec }

// newBacklogMetrics registers what an operator sees of a backlog.
func newBacklogMetrics(r prometheus.Registerer, b *Backlog) (*backlogMetrics, error) {
	m := &backlogMetrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_predictions_refused_total", Help: "Durable predictions that were refused because too many wait, by the reason.",
	}, []string{"reason"})}
	for _, code := range []string{codeFull, codeTenantFull, codeSlow} {
		m.refused.WithLabelValues(code)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.refused,
		b.gauge("sluice_predictions_queued", "Durable predictions that wait to be run, of all tenants, as this process knows.", func() float64 { return float64(b.all.queued) }),
		b.gauge("sluice_predictions_oldest_seconds", "For how long the durable prediction waits that waits longest.", b.age),
		b.gauge("sluice_predictions_leaving_per_second", "Rate at which durable predictions of tenants of whom many wait leave the queue; 0 where it is not known.", func() float64 { return b.all.rate }),
	} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return m, nil
}

func (b *Backlog) gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return value()
	})
}

// age is how long the oldest of all has waited; mu is held.
func (b *Backlog) age() float64 {
	oldest := 0.0
	for _, s := range b.of {
		if !s.oldest.IsZero() {
			oldest = max(oldest, b.store.Now().Sub(s.oldest).Seconds())
		}
	}
	return oldest
}
