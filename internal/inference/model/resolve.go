package model

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/inference/tensor"
)

// Defaults are the server's settings for what a model's configuration leaves
// open. Zero values mean the ones below.
type Defaults struct {
	MaxBatch  int           // rows; 32
	SLO       time.Duration // 100 ms
	QueueSize int           // requests; 4096
}

func (d Defaults) withDefaults() Defaults {
	if d.MaxBatch == 0 {
		d.MaxBatch = 32
	}
	if d.SLO == 0 {
		d.SLO = 100 * time.Millisecond
	}
	if d.QueueSize == 0 {
		d.QueueSize = 4096
	}
	return d
}

// Resolve merges a configuration with the signature read from the model file.
// Every configured port must exist in the model and agree with it; -1 on
// either side agrees with anything, and the fixed extent wins. In the returned
// Config no nil or zero means "default" any more, except that nil Batching
// stays just-in-time batching, 0 Executors stays learned and 0 InterThreads
// stays sequential; it lists every port but states. The returned Signature has
// all ports, the class labels and, where MaxBatchSize > 0, a leading -1 in every
// port.
// Neither argument is changed.
func Resolve(cfg Config, sig Signature, d Defaults) (Config, Signature, error) {
	d = d.withDefaults()
	r := resolver{cfg: cfg.clone(), sig: Signature{Inputs: clonePorts(sig.Inputs), Outputs: clonePorts(sig.Outputs)}}
	for _, step := range []func(Defaults) error{r.batching, r.sequence, r.generate, r.ports, r.features, r.warmup} {
		if err := step(d); err != nil {
			return Config{}, Signature{}, err
		}
	}
	r.fill(d)
	if err := r.cfg.check(); err != nil {
		return Config{}, Signature{}, err
	}
	return r.cfg, r.sig, nil
}

type resolver struct {
	cfg Config
	sig Signature
}

func (r *resolver) errorf(format string, args ...any) error {
	return failure(r.cfg.source(), 0, "", format, args...)
}

// portGroup is the inputs or the outputs: as configured and as in the model.
type portGroup struct {
	kind       string
	configured *[]PortConfig
	model      []Port
}

func (r *resolver) groups() []portGroup {
	return []portGroup{{"input", &r.cfg.Inputs, r.sig.Inputs}, {"output", &r.cfg.Outputs, r.sig.Outputs}}
}

// batching decides MaxBatchSize where the configuration does not, and checks
// that the model can do what was decided.
func (r *resolver) batching(d Defaults) error {
	if r.cfg.MaxBatchSize == nil {
		size := 0
		if r.leadingVaries() && !r.configuredWhole() {
			size = d.MaxBatch
		}
		r.cfg.MaxBatchSize = &size
		return nil
	}
	if *r.cfg.MaxBatchSize == 0 {
		return nil
	}
	for _, g := range r.groups() {
		for _, p := range g.model {
			if len(p.Shape) == 0 || p.Shape[0] != -1 {
				return r.errorf("max_batch_size %d needs a leading dimension that varies, but %s %q of the model has shape %s; set max_batch_size to 0 or export the model with a dynamic batch",
					*r.cfg.MaxBatchSize, g.kind, p.Name, p.Shape)
			}
		}
	}
	return nil
}

// leadingVaries reports whether the model looks as if it batched: every port
// has a leading dimension that varies, and those that are named share a name.
func (r *resolver) leadingVaries() bool {
	symbol := ""
	for _, g := range r.groups() {
		for _, p := range g.model {
			if len(p.Shape) == 0 || p.Shape[0] != -1 {
				return false
			}
			if len(p.Symbols) == 0 || p.Symbols[0] == "" {
				continue
			}
			if symbol == "" {
				symbol = p.Symbols[0]
			}
			if p.Symbols[0] != symbol {
				return false
			}
		}
	}
	return len(r.sig.Inputs) > 0 && len(r.sig.Outputs) > 0
}

// configuredWhole reports whether a configured port has as many dimensions as
// the model's: then its leading one is not a batch.
func (r *resolver) configuredWhole() bool {
	for _, g := range r.groups() {
		for _, c := range *g.configured {
			i := find(g.model, c.Name)
			if i >= 0 && c.Dims != nil && len(c.Dims) == len(g.model[i].Shape) {
				return true
			}
		}
	}
	return false
}

// ports checks the configured ports and merges both sides into both.
func (r *resolver) ports(Defaults) error {
	for _, g := range r.groups() {
		for _, c := range *g.configured {
			if find(g.model, c.Name) < 0 {
				return r.errorf("%s %q is not one of the model's: it has %s", g.kind, c.Name, names(g.model))
			}
		}
		merged := make([]PortConfig, 0, len(g.model))
		for i := range g.model {
			p := &g.model[i]
			c := PortConfig{Name: p.Name}
			if j := slices.IndexFunc(*g.configured, func(c PortConfig) bool { return c.Name == p.Name }); j >= 0 {
				c = (*g.configured)[j]
			}
			if err := r.port(g.kind, &c, p); err != nil {
				return err
			}
			if g.kind == "input" && !r.cfg.Sequence.takes(p.Name) || g.kind == "output" && !r.cfg.Sequence.hides(p.Name) {
				merged = append(merged, c)
			}
		}
		*g.configured = merged
	}
	return nil
}

// port merges one configured port with the model's.
func (r *resolver) port(kind string, c *PortConfig, p *Port) error {
	if c.Datatype == tensor.Invalid {
		c.Datatype = p.Datatype
	}
	if c.Datatype != p.Datatype {
		return r.errorf("%s %q has datatype %s, but the model has %s", kind, c.Name, c.Datatype, p.Datatype)
	}
	dims := p.Shape
	if *r.cfg.MaxBatchSize > 0 {
		dims = dims[1:]
	}
	if c.Dims == nil {
		c.Dims = slices.Clone(dims)
	}
	if !fits(c.Dims, dims) {
		hint := ""
		if *r.cfg.MaxBatchSize > 0 {
			hint = " after its batch dimension"
		}
		return r.errorf("%s %q has dims %s, but the model has %s%s", kind, c.Name, c.Dims, dims, hint)
	}
	for i, d := range dims {
		if d == -1 {
			dims[i] = c.Dims[i] // dims is the tail of p.Shape
		}
		c.Dims[i] = dims[i]
	}
	if c.Labels != nil {
		p.Labels = c.Labels
	} else {
		c.Labels = p.Labels
	}
	if c.Optional {
		c.Optional = false
		r.cfg.Warnings = append(r.cfg.Warnings, r.errorf("%s %q: optional has no effect: the model needs it", kind, c.Name).Error())
	}
	return nil
}

// fits reports whether two shapes agree, -1 agreeing with any extent.
func fits(a, b tensor.Shape) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && a[i] != -1 && b[i] != -1 {
			return false
		}
	}
	return true
}

// warmup checks that each warm-up request is one that the model takes.
func (r *resolver) warmup(Defaults) error {
	for i := range r.cfg.Warmup {
		if err := r.warmupRequest(&r.cfg.Warmup[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) warmupRequest(w *Warmup) error {
	for _, name := range slices.Sorted(maps.Keys(w.Inputs)) {
		if r.sig.Input(name) < 0 {
			return r.errorf("warmup %q: input %q is not one of the model's: it has %s", w.Name, name, names(r.sig.Inputs))
		}
	}
	if *r.cfg.MaxBatchSize > 0 {
		w.BatchSize = max(1, w.BatchSize)
	} else if w.BatchSize > 1 {
		return r.errorf("warmup %q has batch size %d, but the model does not batch", w.Name, w.BatchSize)
	} else {
		w.BatchSize = 0
	}
	w.Count = max(1, w.Count)
	r.warmStates(w)
	for _, c := range r.cfg.Inputs {
		in, ok := w.Inputs[c.Name]
		switch {
		case !ok:
			return r.errorf("warmup %q gives no data for input %q", w.Name, c.Name)
		case in.Datatype != tensor.Invalid && in.Datatype != c.Datatype:
			return r.errorf("warmup %q: input %q has datatype %s, but the model has %s", w.Name, c.Name, in.Datatype, c.Datatype)
		}
		in.Datatype = c.Datatype
		if in.Dims == nil {
			in.Dims = slices.Clone(c.Dims)
		}
		if !fits(in.Dims, c.Dims) || slices.Contains(in.Dims, -1) {
			return r.errorf("warmup %q: input %q needs dims without -1 that agree with %s, got %s", w.Name, c.Name, c.Dims, in.Dims)
		}
		if n, err := in.Dims.Elements(); err != nil || n > int64(maxElements/max(1, w.BatchSize)) {
			return r.errorf("warmup %q: input %q has more than %d elements in %d rows of %s", w.Name, c.Name, maxElements, max(1, w.BatchSize), in.Dims)
		}
		w.Inputs[c.Name] = in
	}
	return nil
}

// fill sets what is still open to the defaults.
func (r *resolver) fill(d Defaults) {
	c := &r.cfg
	c.Platform = Platform
	if c.Filename == "" {
		c.Filename = DefaultFilename
	}
	if c.SLO == 0 {
		c.SLO = d.SLO
	}
	if !c.Policy.All && len(c.Policy.Specific) == 0 {
		c.Policy.Latest = max(1, c.Policy.Latest)
	}
	if c.Execution.Provider == "" {
		c.Execution.Provider = "cpu"
	}
	if c.Execution.Optimization == "" {
		c.Execution.Optimization = "all"
	}
	c.Execution.IntraThreads = max(1, c.Execution.IntraThreads)
	if c.Batching != nil && c.Batching.MaxQueueSize == 0 {
		c.Batching.MaxQueueSize = d.QueueSize
	}
}

// names lists ports for messages.
func names(ports []Port) string {
	quoted := make([]string, len(ports))
	for i, p := range ports {
		quoted[i] = strconv.Quote(p.Name)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// clone copies everything that Resolve may change.
func (c Config) clone() Config {
	if c.MaxBatchSize != nil {
		size := *c.MaxBatchSize
		c.MaxBatchSize = &size
	}
	if c.Batching != nil {
		b := *c.Batching
		c.Batching = &b
	}
	c.Inputs, c.Outputs = clonePortConfigs(c.Inputs), clonePortConfigs(c.Outputs)
	c.Sequence, c.Generate, c.Features = c.Sequence.clone(), c.Generate.clone(), c.Features.clone()
	c.Warmup = slices.Clone(c.Warmup)
	for i := range c.Warmup {
		c.Warmup[i].Inputs = maps.Clone(c.Warmup[i].Inputs)
	}
	c.Warnings = slices.Clone(c.Warnings)
	return c
}

func clonePortConfigs(ports []PortConfig) []PortConfig {
	ports = slices.Clone(ports)
	for i := range ports {
		ports[i].Dims = slices.Clone(ports[i].Dims)
	}
	return ports
}

func clonePorts(ports []Port) []Port {
	ports = slices.Clone(ports)
	for i := range ports {
		ports[i].Shape = slices.Clone(ports[i].Shape)
	}
	return ports
}
