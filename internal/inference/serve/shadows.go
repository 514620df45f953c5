package serve

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/access"
	"sluice/internal/platform/spare"
)

// ShadowConfig bounds what copies of requests for shadows take. Zero values have
// the defaults.
type ShadowConfig struct {
	Queue   int           // copies that may wait; default 64
	Memory  int64         // bytes of all copies; default 64 MiB
	Wait    time.Duration // how long one waits for idle capacity; default 1 s
	Timeout time.Duration // of a run, which has failed then; default 30 s
}

// shadows runs copies of answered requests on other versions, one at a time and only while
// the server has capacity to spare. A run is abandoned as soon as requests need its
// capacity.
type shadows struct {
	cfg      ShadowConfig
	cores    int
	busy     func(threads int) bool // whether requests would feel so many threads more
	load     func(cold *Version)
	metrics  *metrics
	panicked func(reason any)

	queue chan *copied
	bytes atomic.Int64
	ctx   context.Context //nolint:containedctx // of the one worker
	stop  context.CancelFunc

	mu      sync.Mutex // guards what follows
	worker  sync.WaitGroup
	started bool
	closed  bool
}

func newShadows(s *Server, cfg ShadowConfig) *shadows {
	cfg.Queue, cfg.Memory = cmp.Or(cfg.Queue, 64), cmp.Or(cfg.Memory, 64<<20)
	cfg.Wait, cfg.Timeout = cmp.Or(cfg.Wait, time.Second), cmp.Or(cfg.Timeout, 30*time.Second)
	h := &shadows{cfg: cfg, cores: spare.Cores(), busy: s.busy, load: s.loadSpare, metrics: s.metrics, queue: make(chan *copied, cfg.Queue),
		panicked: func(reason any) { s.cfg.Log.Error("a shadow run has panicked", "panic", reason) }}
	h.ctx, h.stop = context.WithCancel(context.Background())
	s.cfg.Metrics.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_shadow_waiting", Help: "Copies of requests that wait for idle capacity."}, func() float64 { return float64(len(h.queue)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_shadow_bytes", Help: "Memory of the copies of requests for shadows."}, func() float64 { return float64(h.bytes.Load()) }))
	return h
}

// busy reports whether the requests in progress would feel a run of so many more threads,
// because there are not enough cores. A server without requests is never busy.
func (s *Server) busy(threads int) bool {
	used := 0
	for v := range s.table.Load().All() {
		if v.runtime.batcher == nil {
			continue // not loaded
		}
		if used += int(v.Stats.Pending.Load()) * v.threads(); used > 0 && used+threads > s.shadows.cores {
			return true
		}
	}
	return false
}

// threads is how many threads a run of the version takes.
func (v *Version) threads() int { return max(v.Config.Execution.IntraThreads, 1) }

// offer queues a copy of an answered request for the shadow of its arm, if the request is in
// the sample and there is capacity. It takes over the answer's memory.
func (h *shadows) offer(ctx context.Context, v *Version, chosen *route.Choice[*Version], c *call) {
	to := chosen.Split.Shadow
	if c.request.Class != batcher.Online || to.Sample < 1 && rand.Float64() >= to.Sample {
		return
	}
	size := c.footprint()
	switch {
	case chosen.Shadow == nil || chosen.Shadow.Graph():
		h.dropped(v, to, shadow.Missing)
	case v.Stats.Pending.Load() > int64(h.cores): // this one included
		h.dropped(chosen.Shadow, to, shadow.Busy)
	case len(h.queue) == cap(h.queue):
		h.dropped(chosen.Shadow, to, shadow.Full)
	case h.bytes.Add(size) > h.cfg.Memory:
		h.bytes.Add(-size)
		h.dropped(chosen.Shadow, to, shadow.Full)
	default:
		d := copyOf(v, c)
		d.to, d.shadow, d.size, d.began = chosen.Shadow, to, size, time.Now()
		d.choice = record.Choice{Experiment: chosen.Split.ID, Arm: to.Name, Shadow: true}
		if d.tenant = c.request.Tenant; d.tenant == "" {
			if p, known := access.From(ctx); known {
				d.tenant = p.Tenant
			}
		}
		if why := h.put(d); why != "" {
			h.drop(d, why)
		}
	}
}

// put queues a copy for the worker; it returns why, if it cannot.
func (h *shadows) put(d *copied) shadow.Dropped {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return shadow.Closing
	}
	if !h.started {
		h.started = true
		h.worker.Go(h.work)
	}
	select {
	case h.queue <- d:
		return ""
	default:
		return shadow.Full
	}
}

// close abandons the run in progress, and what waits.
func (h *shadows) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.worker.Wait()
	for range len(h.queue) { // nobody adds to it any more
		h.drop(<-h.queue, shadow.Closing)
	}
}

func (h *shadows) drop(d *copied, why shadow.Dropped) {
	h.dropped(d.to, d.shadow, why)
	h.bytes.Add(-d.size)
	d.free()
}

func (h *shadows) dropped(v *Version, to *route.Shadow, why shadow.Dropped) {
	to.Judge.Dropped(why)
	h.metrics.unshadowed.WithLabelValues(v.Name, v.Text, string(why)).Inc()
}
