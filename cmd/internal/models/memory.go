package models

import (
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/budget"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
)

// Memory returns the memory that the requests of a listener share, and shows
// what they hold as a metric.
func Memory(metrics prometheus.Registerer, listener string, limit config.Size) (*budget.Budget, error) {
	if limit == 0 {
		limit = share(debug.SetMemoryLimit(-1))
	}
	memory := budget.New(int64(limit), listener+".max_held")
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_held_bytes", Help: "Memory of the requests being received and served, and of their answers.",
		ConstLabels: prometheus.Labels{"listener": listener},
	}, func() float64 { return float64(memory.Held()) })
	if err := metrics.Register(gauge); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
	}
	return memory, nil
}

// share is a listener's part of the limit of Go's memory: with both listeners
// full, half of it is left to everything else and to the garbage.
func share(memoryLimit int64) config.Size {
	return config.Size(min(memoryLimit/4, 2<<30))
}
