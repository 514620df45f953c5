package limit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// clock is a time that tests move.
type clock struct{ at time.Time }

func newClock() *clock                { return &clock{time.Unix(1_790_000_000, 0)} }
func (c *clock) now() time.Time       { return c.at }
func (c *clock) wait(d time.Duration) { c.at = c.at.Add(d) }
func (c *clock) memory(n int) *Memory { return NewMemory(c.now, n) }

func TestQuota(t *testing.T) {
	c := newClock()
	m, p := c.memory(100), Policy{"key", 3, 30 * time.Second}
	take := func(want bool, remaining int64, reset time.Duration) {
		t.Helper()
		d, err := m.Take(t.Context(), Key{"key", "t", "k"}, p)
		if err != nil || d != (Decision{want, remaining, reset}) {
			t.Errorf("got %+v, %v, want %v %d %s", d, err, want, remaining, reset)
		}
	}
	take(true, 2, 10*time.Second)
	take(true, 1, 10*time.Second)
	c.wait(4 * time.Second)
	take(true, 0, 6*time.Second)
	take(false, 0, 6*time.Second)
	c.wait(6*time.Second - 1)
	take(false, 0, 1)
	c.wait(1)
	take(true, 0, 10*time.Second)
	c.wait(time.Hour)
	take(true, 2, 10*time.Second)
}

// Law: what is allowed in any time t is at most the quota and what comes back in
// t; who waits as long as Reset says is served.
func TestQuotaHoldsOverAnyTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newClock()
		p := Policy{"key", rapid.Int64Range(1, 20).Draw(rt, "quota"), time.Duration(rapid.IntRange(1, 60).Draw(rt, "window")) * time.Second}
		each := p.Window / time.Duration(p.Quota)
		m := c.memory(100)
		var served []time.Time
		for range rapid.IntRange(1, 200).Draw(rt, "requests") {
			c.wait(time.Duration(rapid.Int64Range(0, int64(2*each)).Draw(rt, "pause")))
			d, _ := m.Take(context.Background(), Key{"key", "t", "k"}, p)
			if !d.Allowed {
				c.wait(d.Reset - 1)
				if d, _ := m.Take(context.Background(), Key{"key", "t", "k"}, p); d.Allowed {
					rt.Fatal("served before Reset")
				}
				c.wait(1)
				if d, _ = m.Take(context.Background(), Key{"key", "t", "k"}, p); !d.Allowed {
					rt.Fatalf("refused after Reset: %+v", d)
				}
			}
			served = append(served, c.at)
		}
		for i := range served {
			for j := i; j < len(served); j++ {
				if n, most := int64(j-i+1), p.Quota+int64(served[j].Sub(served[i])/each); n > most {
					rt.Fatalf("%d served in %s, at most %d expected", n, served[j].Sub(served[i]), most)
				}
			}
		}
	})
}

// The memory is bounded, and an honest caller's count survives a flood of keys
// that are new.
func TestMemoryIsBounded(t *testing.T) {
	c := newClock()
	m, p := c.memory(3200), Policy{"key", 1, time.Hour}
	for i := range 50_000 {
		if i%100 == 0 {
			c.wait(time.Second)
		}
		_, _ = m.Take(t.Context(), Key{"key", "t", fmt.Sprint(i)}, p)
	}
	n := 0
	for i := range m.shards {
		n += len(m.shards[i].full)
	}
	if n > 3200 || n < 3000 {
		t.Errorf("%d keys", n)
	}
}

func TestMemoryUnderConcurrency(t *testing.T) {
	m, p := NewMemory(time.Now, 1000), Policy{"key", 100, time.Hour}
	var all sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	for range 8 {
		all.Go(func() {
			for range 100 {
				if d, _ := m.Take(context.Background(), Key{"key", "t", "k"}, p); d.Allowed {
					mu.Lock()
					allowed++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if allowed != 100 {
		t.Errorf("%d were allowed", allowed)
	}
}

func TestLimits(t *testing.T) {
	c := newClock()
	l, err := New(c.memory(100), Config{
		Tenant: Policy{Quota: 3, Window: 60 * time.Second}, Key: Policy{Quota: 2, Window: 60 * time.Second}, Jitter: func() float64 { return 0.5 },
	})
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	l.Take(t.Context(), "t", "k1").SetHeaders(h)
	if got := h.Get("RateLimit"); got != `"key";r=1;t=30, "tenant";r=2;t=20` {
		t.Errorf("RateLimit: %s", got)
	}
	if got := h.Get("RateLimit-Policy"); got != `"key";q=2;w=60, "tenant";q=3;w=60` {
		t.Errorf("RateLimit-Policy: %s", got)
	}
	l.Take(t.Context(), "t", "k1")
	refused := l.Take(t.Context(), "t", "k1")
	f := fault.Of(refused.Err())
	if f.Kind != fault.Exhausted || f.RetryAfter != 37500*time.Millisecond {
		t.Errorf("refused with %v after %s", f, f.RetryAfter)
	}
	if err := l.Take(t.Context(), "t", "k2").Err(); err != nil {
		t.Errorf("what one key sends in vain counts against its tenant: %v", err)
	}
	if err := l.Take(t.Context(), "t", "k3").Err(); err == nil {
		t.Error("the tenant's quota does not hold")
	}
	if err := l.Take(t.Context(), "t2", "k3").Err(); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}

func TestPoliciesCanBeOff(t *testing.T) {
	l, err := New(newClock().memory(100), Config{})
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	v := l.Take(t.Context(), "t", "k")
	v.SetHeaders(h)
	if v.Err() != nil || len(h) != 0 {
		t.Errorf("%v, %v", v.Err(), h)
	}
}

type broken struct{}

func (broken) Take(context.Context, Key, Policy) (Decision, error) {
	return Decision{}, errors.New("down")
}

func TestBrokenBackendLetsThrough(t *testing.T) {
	failures := 0
	l, err := New(broken{}, Config{Key: Policy{Quota: 1, Window: time.Second}, Failed: func(context.Context, error) { failures++ }})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Take(t.Context(), "t", "k").Err(); err != nil || failures != 1 {
		t.Errorf("%v, %d failures told", err, failures)
	}
}

func TestPoliciesAreValidated(t *testing.T) {
	for _, p := range []Policy{
		{Quota: 1}, {Quota: -1, Window: time.Second}, {Quota: 1, Window: 1500 * time.Millisecond}, {Quota: 1, Window: time.Millisecond},
		{Quota: 2e9, Window: time.Second}, {Name: "a b", Quota: 1, Window: time.Second}, {Name: `"`, Quota: 1, Window: time.Second},
	} {
		if _, err := New(broken{}, Config{Key: p}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	l, err := New(NewMemory(time.Now, 1<<16), Config{Tenant: Policy{Quota: 1e9, Window: time.Second}, Key: Policy{Quota: 1e9, Window: time.Second}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if l.Take(context.Background(), "tenant", "key_1234567890").Err() != nil {
			b.Fatal("refused")
		}
	}
}
