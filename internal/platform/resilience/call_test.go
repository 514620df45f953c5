package resilience

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roomy lets the breaker and the budget stay out of a test's way.
func roomy(cfg Config) Config {
	cfg.Breaker.MinCalls = 1 << 20
	cfg.Retry.Reserve = 1 << 20
	return cfg
}

// Property 13: a call that may be repeated has exactly the configured number of
// attempts while it fails with a retryable kind, one more than its failures
// where it then succeeds, and one where it may not be repeated; the pauses lie
// between 0 and the exponential bound, or at what the callee asks for.
func TestProperty13Attempts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { inBubble(t, rt, checkAttempts) })
}

func checkAttempts(rt *rapid.T) {
	cfg := roomy(Config{})
	cfg.Retry.Attempts = rapid.IntRange(1, 8).Draw(rt, "attempts")
	cfg.Retry.MinDelay = time.Duration(rapid.IntRange(1, 500).Draw(rt, "min")) * time.Millisecond
	cfg.Retry.MaxDelay = cfg.Retry.MinDelay * time.Duration(rapid.IntRange(1, 50).Draw(rt, "max"))
	p := must(New("x", cfg))

	failures := rapid.IntRange(0, 10).Draw(rt, "failures")
	kind := fault.Kind(rapid.IntRange(int(fault.Internal), int(fault.Gone)).Draw(rt, "kind"))
	after := rapid.SampledFrom([]time.Duration{0, cfg.Retry.MaxDelay / 2, cfg.Retry.MaxDelay}).Draw(rt, "after")
	idempotent := rapid.Bool().Draw(rt, "idempotent")

	var at []time.Time
	f := func(context.Context) (int, error) {
		at = append(at, time.Now())
		if len(at) <= failures {
			return 0, fmt.Errorf("try: %w", fault.New(kind, "failed").WithRetryAfter(after))
		}
		return 42, nil
	}
	run := Do[int]
	want := 1
	if idempotent {
		run = Retry[int]
		if kind.Retryable() {
			want = min(cfg.Retry.Attempts, failures+1)
		}
	}
	v, err := run(context.Background(), p, f)
	if len(at) != want {
		rt.Fatalf("%d attempts, want %d", len(at), want)
	}
	if ok := want > failures; ok != (err == nil) || ok != (v == 42) || !ok && fault.Of(err).Kind != kind {
		rt.Fatalf("%d, %v after %d attempts", v, err, want)
	}
	bound := cfg.Retry.MinDelay
	for i := 1; i < len(at); i++ {
		if d := at[i].Sub(at[i-1]); d < after || d > max(bound, after) {
			rt.Fatalf("pause %d is %s, expected %s to %s", i, d, after, max(bound, after))
		}
		bound = min(2*bound, cfg.Retry.MaxDelay)
	}
}

// Full jitter spreads over the whole range.
func TestJitterIsFull(t *testing.T) {
	r := 0.
	p := must(New("x", Config{Random: func() float64 { return r }, Retry: Retries{MinDelay: time.Second, MaxDelay: 3 * time.Second}}))
	for _, c := range []struct {
		n     int
		r     float64
		after time.Duration
		want  time.Duration
	}{
		{1, 0, 0, 0}, {1, .5, 0, time.Second / 2}, {2, .5, 0, time.Second}, {3, .5, 0, 1500 * time.Millisecond},
		{5000, .5, 0, 1500 * time.Millisecond}, {1, .5, 2 * time.Second, 2 * time.Second}, {1, .5, 4 * time.Second, -1},
	} {
		if r = c.r; p.delay(c.n, c.after) != c.want {
			t.Errorf("%+v: %s", c, p.delay(c.n, c.after))
		}
	}
}

// However much fails, retries are at most the reserve and a tenth of the calls.
func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := must(New("x", Config{Breaker: Breaker{MinCalls: 1 << 20}}))
		attempts := 0
		for range 1000 {
			_, err := Retry(t.Context(), p, func(context.Context) (int, error) {
				attempts++
				return 0, fault.New(fault.Unavailable, "down")
			})
			if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != "unavailable" {
				t.Fatal(err)
			}
		}
		if retries := attempts - 1000; retries < 100 || retries > 110 {
			t.Errorf("%d retries of 1000 calls", retries)
		}
		if got := testutil.ToFloat64(p.metrics.rejections.WithLabelValues("retry_budget")); got < 800 {
			t.Errorf("%v rejections were counted", got)
		}
	})
}

func TestDeadlinesPropagate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := must(New("slow", roomy(Config{Timeout: time.Second, Retry: Retries{Attempts: 3, MinDelay: time.Nanosecond}})))
		hang := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }

		began := time.Now()
		_, err := Retry(t.Context(), p, hang)
		if took := time.Since(began); took.Round(time.Millisecond) != 3*time.Second || fault.CodeOf(err) != "call_timeout" || !fault.Is(err, fault.DeadlineExceeded) {
			t.Errorf("three attempts took %s: %v", took, err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		began = time.Now()
		_, err = Retry(ctx, p, hang)
		if took := time.Since(began); took != 1500*time.Millisecond || !fault.Is(err, fault.DeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's deadline: %s: %v", took, err)
		}

		// Nobody waits for a retry that comes too late, nor longer than the policy says.
		for _, after := range []time.Duration{2 * time.Second, time.Hour} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began = time.Now()
			_, err = Retry(ctx, p, func(context.Context) (int, error) {
				return 0, fault.New(fault.Exhausted, "quota").WithRetryAfter(after)
			})
			if time.Since(began) != 0 || fault.Of(err).RetryAfter != after {
				t.Errorf("asked to wait %s: waited %s: %v", after, time.Since(began), err)
			}
		}
	})
}

func TestCancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := must(New("x", roomy(Config{Random: func() float64 { return 1 }, Retry: Retries{MinDelay: time.Second}})))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		began, calls := time.Now(), 0
		_, err := Retry(ctx, p, func(context.Context) (int, error) { calls++; return 0, fault.New(fault.Unavailable, "down") })
		if calls != 1 || time.Since(began) != time.Second/2 || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%d calls, %s, %v", calls, time.Since(began), err)
		}
		// What succeeded in spite of it is not thrown away.
		v, err := Retry(ctx, must(New("y", Config{Concurrency: 1})), func(context.Context) (int, error) { return 7, nil })
		if err == nil && v != 7 || err != nil && !fault.Is(err, fault.Canceled) {
			t.Errorf("%d, %v", v, err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		if v, err := Retry(ctx, p, func(context.Context) (int, error) { cancel(); return 7, nil }); v != 7 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestBulkhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		p := must(New("narrow", Config{Concurrency: 2, MaxWait: time.Second, Metrics: registry}))
		var running, most atomic.Int32
		full := 0
		done := make(chan error)
		for range 6 {
			go func() {
				_, err := Retry(t.Context(), p, func(context.Context) (int, error) {
					if n := running.Add(1); n > 2 {
						most.Store(n)
					}
					time.Sleep(700 * time.Millisecond)
					running.Add(-1)
					return 0, nil
				})
				done <- err
			}()
		}
		for range 6 {
			if err := <-done; err != nil {
				if full++; fault.CodeOf(err) != "bulkhead_full" || !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter != time.Second {
					t.Errorf("refused with %v", err)
				}
			}
		}
		if most.Load() != 0 || full != 2 {
			t.Errorf("%d at once, %d refused", most.Load(), full)
		}
		if got := testutil.ToFloat64(p.metrics.rejections.WithLabelValues("bulkhead_full")); got != 2 {
			t.Errorf("%v rejections were counted", got)
		}
	})
}

func TestFallback(t *testing.T) {
	p := must(New("x", roomy(Config{Retry: Retries{MinDelay: time.Nanosecond}})))
	for kind, want := range map[fault.Kind]int{fault.Unavailable: 2, fault.Internal: 2, fault.Exhausted: 2, fault.Invalid: 0, fault.NotFound: 0} {
		got, err := Fallback(t.Context(), p,
			func(context.Context) (int, error) { return 0, fault.New(kind, "failed") },
			func(_ context.Context, err error) (int, error) { return 2, nil })
		if got != want || (err == nil) != (want == 2) {
			t.Errorf("%s: %d, %v", kind, got, err)
		}
	}
}

func TestErrorsAreFaults(t *testing.T) {
	p := must(New("x", Config{}))
	cause := errors.New("password=hunter2")
	_, err := Do(t.Context(), p, func(context.Context) (int, error) { return 0, cause })
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Internal || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestPoliciesShareARegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	for _, name := range []string{"a", "b", "b"} {
		p, err := New(name, Config{Metrics: registry})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = Do(t.Context(), p, func(context.Context) (int, error) { return 0, nil })
	}
	if n, err := testutil.GatherAndCount(registry, "sluice_outgoing_calls_total"); n != 2 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
	registry = prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_outgoing_calls_total"}))
	if _, err := New("a", Config{Metrics: registry}); !fault.Is(err, fault.Internal) {
		t.Errorf("a name that is taken: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for i, cfg := range []Config{
		{Timeout: -1}, {Concurrency: -1}, {MaxWait: -1},
		{Retry: Retries{Attempts: -1}}, {Retry: Retries{MinDelay: 2, MaxDelay: 1}}, {Retry: Retries{Budget: 2}}, {Retry: Retries{Reserve: -1}},
		{Breaker: Breaker{FailureRate: 2}}, {Breaker: Breaker{MinCalls: -1}}, {Breaker: Breaker{Delay: -1}}, {Breaker: Breaker{Probes: -1}},
	} {
		if _, err := New("x", cfg); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := New("", Config{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no name: %v", err)
	}
}

func BenchmarkCall(b *testing.B) {
	p := must(New("x", Config{Metrics: prometheus.NewRegistry()}))
	ok := func(context.Context) (int, error) { return 1, nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Retry(b.Context(), p, ok); err != nil {
			b.Fatal(err)
		}
	}
}
