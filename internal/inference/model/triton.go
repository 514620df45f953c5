package model

import (
	"strconv"
	"strings"
	"time"

	"sluice/internal/inference/tensor"
)

// Parameters that carry Sluice's own settings through Triton's configuration.
const (
	paramSLO      = "sluice.slo"      // a Go duration
	paramBatching = "sluice.batching" // "off"
	paramGenerate = "sluice.generate" // the group generate of config.yaml, as JSON
	paramInitial  = "sluice.initial." // and a state's input: its initial values, as a JSON list
)

// tritonTypes are the names of the DataType enum by number.
var tritonTypes = []string{
	"TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8", "TYPE_INT16",
	"TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
}

var tritonDatatypes = []tensor.Datatype{
	tensor.Invalid, tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Int8, tensor.Int16,
	tensor.Int32, tensor.Int64, tensor.FP16, tensor.FP32, tensor.FP64, tensor.Bytes, tensor.BF16,
}

// readTriton reads a ModelConfig message: model_config.proto of Triton's
// common repository. Every field of it is either read, refused or ignored by
// name here; a field that the message does not have is an unknown key.
func readTriton(s *section) Config {
	c := Config{Name: s.modelName(), MaxBatchSize: s.maxBatchSize(), Filename: s.fileName("default_model_filename")}
	c.Platform = s.choice("platform", Platform, PlatformGraph)
	s.choice("backend", "onnxruntime", "sluice")
	s.group("version_policy", func(p *section) { c.Policy = p.tritonPolicy() })
	s.groups("input", func(p *section) { c.Inputs = append(c.Inputs, p.tritonInput()) })
	s.groups("output", func(p *section) { c.Outputs = append(c.Outputs, p.tritonOutput()) })
	s.group("dynamic_batching", func(b *section) { c.Batching = b.tritonBatching() })
	s.group("sequence_batching", func(q *section) { c.Sequence = q.tritonSequence() })
	s.tritonInstances(&c.Execution)
	s.group("optimization", func(o *section) { o.tritonOptimization(&c.Execution) })
	s.groups("model_warmup", func(w *section) { c.Warmup = append(c.Warmup, w.tritonWarmup()) })
	s.tritonParameters(&c)
	s.tritonDecoupled(&c)
	s.tritonUnsupported()
	return c
}

func (s *section) tritonUnsupported() {
	s.refuseAny("only single models are served", "ensemble_scheduling")
	s.refuse("each request's rows are batched as they are", "batch_input", "batch_output")
	s.refuse("models use ONNX Runtime's own operators only", "model_operations")
	s.refuse("the repository is read as it is, without agents", "model_repository_agents")
	s.refuse("the engine is not chosen by the model", "runtime")
	s.ignore("answers are not cached", "response_cache")
	s.ignore("metrics have fixed names, labels and buckets", "metric_tags", "model_metrics")
	s.ignore("the default model file is used on every device", "cc_model_filenames")
}

func (s *section) tritonPolicy() VersionPolicy {
	var p VersionPolicy
	choices := 0
	choices += btoi(s.group("latest", func(l *section) { p.Latest = l.count("num_versions", maxDim) }))
	choices += btoi(s.group("all", func(*section) { p.All = true }))
	choices += btoi(s.group("specific", func(v *section) {
		p.Specific = v.distinct("versions", v.integers("versions", 1, maxVersion))
		if len(p.Specific) == 0 {
			v.fail(v.node.line, v.at("versions"), "must name at least one version")
		}
	}))
	if choices > 1 {
		s.fail(s.node.line, s.path, "must be one of latest, all and specific, got %d of them", choices)
	}
	return p
}

func (s *section) tritonPort() PortConfig {
	p := PortConfig{
		Name:     s.portName(),
		Datatype: tritonDatatypes[s.enum("data_type", tritonTypes...)],
		Dims:     s.dims(-1),
	}
	s.tritonReshape(p.Dims)
	s.refuse("shapes are not passed as tensors", "is_shape_tensor")
	s.refuse("only TensorRT engines have such tensors", "is_non_linear_format_io")
	return p
}

// tritonReshape accepts a reshape that changes nothing.
func (s *section) tritonReshape(dims tensor.Shape) {
	s.group("reshape", func(r *section) {
		if to := tensor.Shape(r.integers("shape", -1, maxDim)); !to.Equal(dims) {
			r.fail(r.node.line, r.path, "is not supported: remove it and set dims to %s, the shape that the model takes and clients then use, instead of %s", to, dims)
		}
	})
}

func (s *section) tritonInput() PortConfig {
	p := s.tritonPort()
	p.Optional = s.boolean("optional")
	s.refuse("all rows of a batch have the same shape", "allow_ragged_batch")
	s.ignore("data is passed on as it comes", "format")
	return p
}

func (s *section) tritonOutput() PortConfig {
	p := s.tritonPort()
	p.LabelFile = s.fileName("label_filename")
	return p
}

func (s *section) tritonBatching() *Batching {
	b := Batching{
		PreferredSizes:   ints(s.distinct("preferred_batch_size", s.integers("preferred_batch_size", 1, maxBatch))),
		MaxQueueDelay:    s.micros("max_queue_delay_microseconds"),
		PreserveOrdering: s.boolean("preserve_ordering"),
		PriorityLevels:   s.count("priority_levels", maxPriority),
		DefaultPriority:  s.count("default_priority_level", maxPriority),
	}
	s.group("default_queue_policy", func(q *section) {
		b.TimeoutDelay = q.enum("timeout_action", "REJECT", "DELAY") == 1
		b.DefaultTimeout = q.micros("default_timeout_microseconds")
		b.AllowTimeoutOverride = q.boolean("allow_timeout_override")
		b.MaxQueueSize = q.count("max_queue_size", maxQueue)
	})
	s.ignore("default_queue_policy holds for every priority level", "priority_queue_policy")
	return orNil(b)
}

const (
	kindAuto = iota
	kindGPU
	kindCPU
)

// tritonInstances sums the instances into executors. KIND_GPU asks for the
// CUDA provider, and so fails by name where the runtime lacks it; KIND_AUTO,
// Triton's default, is the CPU unless an execution accelerator says otherwise.
func (s *section) tritonInstances(e *Execution) {
	first := true
	s.groups("instance_group", func(g *section) {
		provider := [...]string{kindAuto: "", kindGPU: "cuda", kindCPU: "cpu"}[g.enum("kind", "KIND_AUTO", "KIND_GPU", "KIND_CPU")]
		if !first && provider != e.Provider {
			g.fail(g.node.line, g.at("kind"), "must be the same in every group: one model runs on one kind of device")
		}
		first = false
		e.Provider = provider
		e.Executors += g.count("count", maxThreads)
		g.tritonGPUs()
		g.str("name")
		g.refuse("every instance takes requests", "passive")
		g.refuse("only CPU and CUDA devices are used", "secondary_devices")
		g.ignore("executors are scheduled by measured cost", "rate_limiter")
		g.ignore("threads are not pinned", "host_policy")
		g.ignore("only TensorRT engines have profiles", "profile")
	})
	if e.Executors > maxThreads {
		s.fail(s.node.line, "instance_group", "must add up to at most %d instances, got %d", maxThreads, e.Executors)
	}
}

func (s *section) tritonGPUs() {
	gpus := s.distinct("gpus", s.integers("gpus", 0, maxThreads))
	for i, gpu := range gpus {
		switch {
		case i == 0 && gpu != 0:
			s.fail(s.node.line, s.at("gpus"), "must start with GPU 0, the only one that is used, got %d", gpu)
		case i == 1:
			s.warn(s.node.line, s.at("gpus"), "only GPU 0 is used")
		}
	}
}

func (s *section) tritonOptimization(e *Execution) {
	s.group("graph", func(g *section) {
		level, _ := g.integer("level", -1, 2)
		e.Optimization = map[int64]string{-1: "basic", 0: "", 1: "extended", 2: "disable"}[level]
	})
	s.group("execution_accelerators", func(a *section) {
		a.groups("gpu_execution_accelerator", func(g *section) {
			name := g.choice("name", "tensorrt", "cuda")
			if name == "" {
				g.fail(g.node.line, g.at("name"), "must be tensorrt or cuda")
			}
			switch e.Provider {
			case "cpu":
				g.warn(g.node.line, g.path, "the instances are of KIND_CPU")
			case "tensorrt": // falls back to CUDA by itself
			default:
				e.Provider = name
			}
			g.ignore("the provider's own defaults are used", "parameters")
		})
		a.refuse("ONNX Runtime's CPU provider needs none", "cpu_execution_accelerator")
	})
	s.ignore("the scheduler gives models no priority", "priority")
	s.ignore("the provider's own defaults are used", "cuda")
	for _, key := range []string{"input_pinned_memory", "output_pinned_memory"} {
		s.group(key, func(m *section) { m.boolean("enable") }) // a hint about copies; on by default in Triton
	}
	s.ignore("data is not gathered on the device", "gather_kernel_buffer_threshold")
	s.ignore("an idle executor never waits", "eager_batching")
}

func (s *section) tritonWarmup() Warmup {
	w := Warmup{Name: s.str("name"), BatchSize: s.count("batch_size", maxBatch), Count: max(1, s.count("count", maxWarmup))}
	s.entries("inputs", func(name, path string, v *node) {
		in := s.section(path, v)
		put(&w.Inputs, name, WarmupInput{
			Datatype: tritonDatatypes[in.enum("data_type", tritonTypes...)],
			Dims:     in.dims(1),
			Random:   in.boolean("random_data"),
		})
		in.boolean("zero_data")
		in.ignore("zeros are used", "input_data_file")
		in.end()
	})
	return w
}

// tritonParameters takes the parameters that ONNX Runtime's backend and Sluice
// know as settings; all others are kept as they are.
func (s *section) tritonParameters(c *Config) {
	parallel, inter := false, 0
	s.entries("parameters", func(key, path string, v *node) {
		p := s.section(path, v)
		value := p.str("string_value")
		p.end()
		input, initial := strings.CutPrefix(key, paramInitial)
		switch key {
		case paramGenerate:
			c.Generate = p.embedded(value, (*section).generation)
			return
		case "intra_op_thread_count":
			c.Execution.IntraThreads = p.textCount(value)
		case "inter_op_thread_count":
			inter = p.textCount(value)
		case "execution_mode":
			parallel = p.textFlag(value)
		case "enable_mem_arena":
			c.Execution.NoArena = !p.textFlag(value)
		case paramFeatures:
			p.embedded(value, func(f *section) *Generate {
				c.Features = f.features()
				return nil
			})
			return
		case paramFallback:
			c.Fallback = p.fallback(value)
		case paramSLO:
			c.SLO = p.textDuration(value)
		case paramBatching:
			if c.NoBatching = value == "off"; !c.NoBatching {
				p.fail(v.line, path, "must be \"off\", got %.80q", value)
			}
		case "enable_mem_pattern", "memory.enable_memory_arena_shrinkage", "session.use_device_allocator_for_initializers":
			p.warn(v.line, path, "the engine's own choice is used")
			put(&c.Parameters, key, value)
		default:
			if initial {
				p.tritonInitial(c.Sequence, input, value)
			} else {
				put(&c.Parameters, key, value)
			}
		}
	})
	switch {
	case parallel && inter > 1:
		c.Execution.InterThreads = inter
	case parallel:
		s.warn(s.node.line, `parameters["execution_mode"]`, "running branches in parallel needs an inter_op_thread_count above 1")
	}
}

func (s *section) textCount(value string) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > maxThreads {
		s.fail(s.node.line, s.path, "must be an integer of 0 to %d, got %.80q", maxThreads, value)
		return 0
	}
	return n
}

func (s *section) textFlag(value string) bool {
	if value != "0" && value != "1" {
		s.fail(s.node.line, s.path, "must be \"0\" or \"1\", got %.80q", value)
	}
	return value == "1"
}

func (s *section) textDuration(value string) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 || d > maxDuration {
		s.fail(s.node.line, s.path, "must be a duration of up to %s such as 50ms, got %.80q", maxDuration, value)
		return 0
	}
	return d
}
