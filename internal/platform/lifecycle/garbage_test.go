package lifecycle

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Garbage stays within its bound, or as much as has pointers, never exceeds what the percentage says,
// and is less the more buffers there are, but no less than half.
func TestAllowance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &allowance{gogc: rapid.IntRange(10, 10_000).Draw(t, "gogc"), garbage: rapid.Uint64Range(1, 1<<40).Draw(t, "garbage")}
		points := rapid.Uint64Range(0, 1<<45).Draw(t, "points")
		buffers := rapid.Uint64Range(0, 1<<45).Draw(t, "buffers")
		l := alive{looked: points + buffers, points: points}
		p := a.percent(l)
		if p > a.gogc || p < 1 {
			t.Fatalf("%d percent of %+v, with a most of %d", p, l, a.gogc)
		}
		garbage, percent := uint64(p)*l.looked/100, l.looked/100+1
		if garbage > max(a.garbage, points, percent) {
			t.Fatalf("%d bytes of garbage beside %+v, more than %d", garbage, l, a.garbage)
		}
		if p < a.gogc && garbage+percent < max(a.garbage/2, points) {
			t.Fatalf("%d bytes of garbage beside %+v, less than half of %d", garbage, l, a.garbage)
		}
		if p < a.gogc && garbage+buffers+percent < a.garbage {
			t.Fatalf("%d bytes of garbage beside %+v leave a part of %d to nobody", garbage, l, a.garbage)
		}
		if more := a.percent(alive{looked: points + buffers/2, points: points}); more < p {
			t.Fatalf("%d percent beside half of the buffers, %d beside all", more, p)
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
	until("with large buffers", func() bool { g := goal(); return g > buffers && g < buffers+garbage })
	runtime.KeepAlive(held)
	until("without them", func() bool { return goal() < buffers })
}
