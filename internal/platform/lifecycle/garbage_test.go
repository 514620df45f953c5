package lifecycle

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Garbage stays within its bound, or as much as lives, and never exceeds what the
// percentage says.
func TestAllowance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &allowance{gogc: rapid.IntRange(10, 10_000).Draw(t, "gogc"), garbage: rapid.Uint64Range(1, 1<<40).Draw(t, "garbage")}
		looked := rapid.Uint64Range(0, 1<<45).Draw(t, "looked")
		p := a.percent(looked)
		if p > a.gogc || p < min(a.gogc, 100) {
			t.Fatalf("%d percent of %d bytes, with a most of %d", p, looked, a.gogc)
		}
		if garbage := uint64(p) * looked / 100; garbage > max(a.garbage, looked) {
			t.Fatalf("%d bytes of garbage beside %d, more than %d", garbage, looked, a.garbage)
		}
		if more := a.percent(looked / 2); more < p {
			t.Fatalf("%d percent of half of it, %d of all", more, p)
		}
	})
}

// A heap of large buffers does not have four times as much garbage beside it, and one that is small
// again has its percentage.
func TestGarbageIsBounded(t *testing.T) {
	const gogc, garbage, buffers = 400, 32 << 20, 96 << 20
	before := debug.SetGCPercent(gogc)
	a := &allowance{gogc: gogc, garbage: garbage, set: gogc}
	stopped, turns := make(chan struct{}), make(chan struct{}, 1)
	t.Cleanup(func() { close(stopped); debug.SetGCPercent(before) })
	afterCollections(func() {
		select {
		case <-stopped:
		default:
			a.adapt()
			select {
			case turns <- struct{}{}:
			default:
			}
		}
	})
	goal := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); {
			if time.Now().After(end) {
				t.Fatalf("%s: the heap's goal is %d MB", what, goal()>>20)
			}
			runtime.GC()
			select {
			case <-turns:
			case <-time.After(time.Second):
			}
		}
	}
	held := make([]byte, buffers)
	until("with large buffers", func() bool { g := goal(); return g > buffers && g < buffers+2*buffers })
	runtime.KeepAlive(held)
	until("without them", func() bool { return goal() < buffers })
}
