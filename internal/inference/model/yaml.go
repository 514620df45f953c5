package model

import (
	"strconv"

	"sluice/internal/inference/tensor"
)

func readYAML(s *section) Config {
	c := Config{
		Name:         s.modelName(),
		Description:  s.str("description"),
		Filename:     s.fileName("filename"),
		MaxBatchSize: s.maxBatchSize(),
		SLO:          s.duration("slo"),
		Inputs:       s.yamlPorts("inputs"),
		Outputs:      s.yamlPorts("outputs"),
	}
	s.entries("labels", func(label, path string, v *node) {
		if err := validLabel(label); err != nil {
			s.fail(v.line, s.at("labels"), "%s", err)
		}
		put(&c.Labels, label, s.integerNode(path, v, 1, maxVersion))
	})
	s.group("version_policy", func(p *section) { c.Policy = p.yamlPolicy() })
	c.Batching, c.NoBatching = s.yamlBatching()
	s.group("sequence", func(q *section) { c.Sequence = q.yamlSequence() })
	s.group("generate", func(g *section) { c.Generate = g.generation() })
	s.group("features", func(f *section) { c.Features = f.features() })
	c.Fallback = s.fallback(s.str("fallback"))
	s.group("execution", func(e *section) { c.Execution = e.yamlExecution() })
	s.groups("warmup", func(w *section) { c.Warmup = append(c.Warmup, w.yamlWarmup()) })
	s.entries("parameters", func(key, path string, v *node) { put(&c.Parameters, key, s.strNode(path, v)) })
	return c
}

const maxVersion = 1<<63 - 1

// put sets a key of a map that is made on first use.
func put[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

func (s *section) yamlPorts(key string) []PortConfig {
	var ports []PortConfig
	s.groups(key, func(p *section) {
		port := PortConfig{
			Name:      p.portName(),
			Datatype:  p.datatype(),
			Dims:      p.dims(-1),
			LabelFile: p.fileName("label_file"),
			Optional:  p.boolean("optional"),
		}
		for i, n := range p.all("labels") {
			port.Labels = append(port.Labels, p.strNode(p.at("labels")+"["+strconv.Itoa(i)+"]", n))
		}
		if port.LabelFile != "" && port.Labels != nil {
			p.fail(p.node.line, p.at("label_file"), "cannot be given beside labels")
		}
		ports = append(ports, port)
	})
	return ports
}

// datatype reads a protocol name such as FP32.
func (s *section) datatype() tensor.Datatype {
	name := s.str("datatype")
	if name == "" {
		return tensor.Invalid
	}
	d, err := tensor.Parse(name)
	if err != nil {
		s.fail(s.node.line, s.at("datatype"), "%s", err)
	}
	return d
}

func (s *section) yamlPolicy() VersionPolicy {
	latest, hasLatest := s.integer("latest", 1, maxDim)
	p := VersionPolicy{Latest: int(latest), All: s.boolean("all")}
	specific := s.find("specific")
	p.Specific = s.distinct("specific", s.integers("specific", 1, maxVersion))
	if specific != nil && len(p.Specific) == 0 {
		s.fail(specific.line, s.at("specific"), "must name at least one version")
	}
	if choices := btoi(hasLatest) + btoi(p.All) + btoi(p.Specific != nil); choices > 1 {
		s.fail(s.node.line, s.path, "must be one of latest, all and specific, got %d of them", choices)
	}
	return p
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// yamlBatching reads either settings or "batching: off".
func (s *section) yamlBatching() (settings *Batching, off bool) {
	n := s.find("batching")
	if n == nil {
		return nil, false
	}
	if n.kind == word && (n.text == "off" || n.text == "false") {
		return nil, true
	}
	s.group("batching", func(b *section) {
		settings = orNil(Batching{
			PreferredSizes:       ints(b.distinct("preferred_sizes", b.integers("preferred_sizes", 1, maxBatch))),
			MaxQueueDelay:        b.duration("max_queue_delay"),
			MaxQueueSize:         b.count("max_queue_size", maxQueue),
			DefaultTimeout:       b.duration("default_timeout"),
			AllowTimeoutOverride: b.boolean("allow_timeout_override"),
			TimeoutDelay:         b.enum("timeout_action", "reject", "delay") == 1,
			PreserveOrdering:     b.boolean("preserve_ordering"),
			PriorityLevels:       b.count("priority_levels", maxPriority),
			DefaultPriority:      b.count("default_priority", maxPriority),
		})
	})
	return settings, false
}

func (s *section) yamlExecution() Execution {
	e := Execution{
		Provider:     s.choice("provider", providers...),
		Executors:    s.count("executors", maxThreads),
		IntraThreads: s.count("intra_threads", maxThreads),
		InterThreads: s.count("inter_threads", maxThreads),
		Optimization: s.choice("optimization", optimizations...),
	}
	arena := s.find("arena")
	e.NoArena = !s.boolean("arena") && arena != nil
	return e
}

func (s *section) yamlWarmup() Warmup {
	w := Warmup{Name: s.str("name"), BatchSize: s.count("batch_size", maxBatch), Count: max(1, s.count("count", maxWarmup))}
	s.entries("inputs", func(name, path string, v *node) {
		in := s.section(path, v)
		put(&w.Inputs, name, WarmupInput{
			Datatype: in.datatype(),
			Dims:     in.dims(1),
			Random:   in.enum("data", "zero", "random") == 1,
		})
		in.end()
	})
	return w
}
