package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

func TestProbes(t *testing.T) {
	synctest.Test(t, testProbes)
}

func testProbes(t *testing.T) {
	var h Health
	var broken atomic.Bool
	h.AddCheck("models", func(context.Context) error {
		time.Sleep(250 * time.Millisecond)
		if broken.Load() {
			return fault.Wrap(fault.Unavailable, errors.New("password=hunter2"), "model iris is loading")
		}
		return nil
	})
	h.AddCheck("deadline", func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("checks have no time limit")
		}
		return nil
	})
	ops := NewOps(&h, prometheus.NewRegistry(), slog.New(slog.DiscardHandler), OpsConfig{})
	expect := func(state string, codes map[string]int) {
		t.Helper()
		for path, want := range codes {
			if got, body := get(t, ops, path); got != want {
				t.Errorf("%s: %s answers %d %s, want %d", state, path, got, body, want)
			}
		}
	}
	expect("starting", map[string]int{"/livez": 200, "/startupz": 503, "/readyz": 503, "/healthz": 503})
	h.SetStarted()
	expect("started", map[string]int{"/livez": 200, "/startupz": 200, "/readyz": 200, "/healthz": 200})

	broken.Store(true)
	expect("still fresh", map[string]int{"/readyz": 200})
	time.Sleep(checkFresh)
	expect("broken", map[string]int{"/livez": 200, "/startupz": 200, "/readyz": 503, "/healthz": 503})
	_, body := get(t, ops, "/readyz")
	var p probe
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	want := CheckResult{"models", "fail", "model iris is loading", .25}
	if p.Status != "fail" || p.Checks[1] != want || strings.Contains(body, "hunter2") {
		t.Errorf("readyz answers %s", body)
	}
	broken.Store(false)
	time.Sleep(failureFresh) // what gets ready is not kept waiting for a second
	expect("repaired", map[string]int{"/readyz": 200})
	h.SetDraining()
	expect("draining", map[string]int{"/livez": 200, "/startupz": 200, "/readyz": 503, "/healthz": 503})
}

// A hundred probes ask a dependency once, checks run side by side, and a probe
// that leaves takes nothing away from the others.
func TestChecksRunOnceAndSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		h.SetStarted()
		var runs atomic.Int32
		for _, name := range []string{"a", "b", "c"} {
			h.AddCheck(name, func(ctx context.Context) error {
				runs.Add(1)
				select {
				case <-time.After(time.Second):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}
		impatient, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if results, ready := h.Ready(impatient); ready || results[1].Reason == "" {
			t.Errorf("without an answer: %+v", results)
		}
		began := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if results, ready := h.Ready(t.Context()); !ready || results[3].Seconds != 1 {
					t.Errorf("%+v", results)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); runs.Load() != 3 || took > time.Second {
			t.Errorf("%d runs in %s", runs.Load(), took)
		}
	})
}

// A check that ignores its context fails, holds up nobody for longer than the
// limit, and is not started again while it hangs.
func TestAHangingCheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		h.SetStarted()
		runs, release := 0, make(chan struct{})
		h.AddCheck("hangs", func(context.Context) error { runs++; <-release; return nil })
		h.AddCheck("works", func(context.Context) error { return nil })
		for range 3 {
			began := time.Now()
			results, ready := h.Ready(t.Context())
			if ready || results[1].Status != "fail" || results[2].Status != "pass" || time.Since(began) != checkTimeout {
				t.Errorf("%+v after %s", results, time.Since(began))
			}
		}
		close(release)
		synctest.Wait()
		if _, ready := h.Ready(t.Context()); !ready || runs != 1 {
			t.Errorf("ready is %t after %d runs", ready, runs)
		}
	})
}
