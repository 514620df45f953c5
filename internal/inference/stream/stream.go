// Package stream serves models step by step: stateful ones, whose steps hand a
// state to each other, and generative ones, which answer one request with many
// steps. It stands before a serve.Models and is one itself.
//
// A sequence is named by the client (the protocol's sequence_id), or belongs to
// one stream and needs no name. The server carries its state from step to step:
// to the model it is an input like any other, so steps of different sequences
// share runs. A step that fails leaves the state as it was. Sequences are told
// apart by tenant, model and name; their number and bytes are bounded, and those
// that nobody uses expire.
//
// A Line keeps the answers of one stream in the order of its inputs, of which a
// bounded number is in progress.
//
// Known limits: states are kept in this process's memory only. All steps of a
// sequence must reach the same process, and a restart ends them: a later step is
// told that its sequence is unknown. A sequence stays with the model version
// that it began on, and ends when that is no longer served.
package stream

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// Config holds the limits of Models. Zero values have the defaults.
type Config struct {
	MaxSequences int   // of all tenants; default 10,000
	MaxPerTenant int   // default 2,500
	MaxBytes     int64 // of all states; default 256 MiB
	TenantBytes  int64 // of the states of one tenant; default 64 MiB
	// Now is the time by which credentials end; default time.Now.
	Now func() time.Time
	// Metrics takes the metrics; nil registers nowhere.
	Metrics prometheus.Registerer
}

func (c Config) resolve() (Config, error) {
	c.MaxSequences = cmp.Or(c.MaxSequences, 10_000)
	c.MaxPerTenant = cmp.Or(c.MaxPerTenant, 2_500)
	c.MaxBytes = cmp.Or(c.MaxBytes, 256<<20)
	c.TenantBytes = cmp.Or(c.TenantBytes, 64<<20)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxSequences < 0 || c.MaxPerTenant < 0 || c.MaxBytes < 0 || c.TenantBytes < 0 {
		return c, fault.New(fault.Invalid, "stream: a limit is negative; leave it out for its default")
	}
	return c, nil
}

// Models serves stateful and generative models beside all others.
type Models struct {
	serve.Models
	table   *table
	metrics *metrics
	now     func() time.Time
	owns    atomic.Uint64
}

// New returns the models with what it takes to serve them step by step.
func New(models serve.Models, cfg Config) (*Models, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Models{Models: models, table: newTable(cfg, m), metrics: m, now: cfg.Now}, nil
}

// Of returns the models themselves if they are a *Models already, and else new ones
// around them with the default limits.
func Of(models serve.Models) (*Models, error) {
	if m, ok := models.(*Models); ok {
		return m, nil
	}
	return New(models, Config{})
}

// Close forgets all sequences.
func (m *Models) Close() { m.table.close() }

// Predict implements serve.Models. A request to a stateful model is a step of
// the sequence that it names.
func (m *Models) Predict(ctx context.Context, codec serve.Codec) error {
	return m.Step(ctx, codec, nil)
}

// Step is Predict for a stream: a request that names no sequence is a step of
// the stream's own. Generative models need Generate.
func (m *Models) Step(ctx context.Context, codec serve.Codec, own *Own) (err error) {
	s := steps.Get().(*step)
	s.models, s.inner, s.own = m, codec, own
	finished := false
	defer func() {
		s.settle(finished && err == nil)
		*s = step{}
		steps.Put(s)
	}()
	err = s.reword(m.Models.Predict(ctx, s))
	finished = true
	return err
}

// Opened counts a stream of a transport as open, until the function that it returns is
// called.
func (m *Models) Opened(transport string) (closed func()) {
	g := m.metrics.streams.WithLabelValues(transport)
	g.Inc()
	return g.Dec
}

// Own is the sequence that belongs to one stream and one model. Its steps come
// one after another.
type Own struct {
	id      uint64
	version string // of the model; empty before the first step
	held    *sequence
}

// Own returns a sequence for a stream, which Release ends.
func (m *Models) Own() *Own { return &Own{id: m.owns.Add(1)} }

// Release ends a stream's own sequence. No step may be in progress.
func (m *Models) Release(o *Own) {
	if o != nil && o.held != nil {
		m.table.forget(o.held, "stream")
		o.held, o.version = nil, ""
	}
}
