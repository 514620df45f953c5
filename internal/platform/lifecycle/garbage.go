package lifecycle

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// allowance bounds what lies between two collections beside what lives. A percentage
// that spends little memory on a small heap, to save CPU, spends several times what the
// largest buffers take as soon as there are some; these cost a collection nothing, for
// nothing in them points anywhere. So they take up to a half of the allowance.
type allowance struct {
	gogc    int    // percent, which it never exceeds
	garbage uint64 // bytes
	set     int    // percent, at this time
}

// alive is what a collection has found, in bytes.
type alive struct {
	looked uint64 // of which the runtime takes a percentage: the heap, stacks and globals
	points uint64 // of it what may have pointers, which is what a collection costs; the rest is buffers
}

// percent returns the growth target. As much garbage as has pointers there always may be:
// collections whose cost grows must not become more frequent, too.
func (a *allowance) percent(l alive) int {
	if l.looked == 0 {
		return a.gogc
	}
	garbage := max(a.garbage-min(l.looked-l.points, a.garbage/2), l.points)
	return int(min(uint64(a.gogc), max(1, 100*garbage/l.looked)))
}

// adapt is called behind each collection. It leaves the target as it is where that
// is near enough: to set one stops the world for a moment.
func (a *allowance) adapt() {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(samples)
	var l alive
	beside := samples[1].Value.Uint64() + samples[2].Value.Uint64()
	l.looked = samples[0].Value.Uint64() + beside
	l.points = min(samples[3].Value.Uint64()+beside, l.looked)
	const near = 20 // a twentieth of it
	if p := a.percent(l); p > a.set+a.set/near || p < a.set-a.set/near {
		a.set = p
		debug.SetGCPercent(p)
	}
}

// afterCollections has f called behind each collection from now on.
func afterCollections(f func()) {
	type witness struct{ _ *byte } // what has a pointer is an allocation of its own
	runtime.AddCleanup(new(witness), func(struct{}) {
		f()
		afterCollections(f)
	}, struct{}{})
}
