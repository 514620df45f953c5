package lifecycle

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// allowance bounds what lies between two collections beside what lives. A percentage
// that spends little memory on a small heap, to save CPU, spends several times what the
// largest buffers take as soon as there are some; these cost a collection nothing, for
// nothing in them points anywhere.
type allowance struct {
	gogc    int    // percent, which it never exceeds
	garbage uint64 // bytes
	set     int    // percent, at this time
}

// enough is the percentage below which garbage is not bounded: collections whose cost
// grows with the heap must not become more frequent as it grows.
const enough = 100

// percent returns the growth target for what a collection has looked at, in bytes, of
// which the runtime takes a percentage.
func (a *allowance) percent(looked uint64) int {
	if looked == 0 {
		return a.gogc
	}
	return int(min(uint64(a.gogc), max(enough, 100*a.garbage/looked)))
}

// adapt is called behind each collection. It leaves the target as it is where that
// is near enough: to set one stops the world for a moment.
func (a *allowance) adapt() {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	looked := uint64(0)
	for _, s := range samples {
		looked += s.Value.Uint64()
	}
	const near = 20 // a twentieth of it
	if p := a.percent(looked); p > a.set+a.set/near || p < a.set-a.set/near {
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
