package model

import (
	"unicode/utf8"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// ParseYAML reads Sluice's own config.yaml, in which every key is optional:
//
//	name: ranker                    # the folder's name
//	description: Ranks documents.
//	filename: model.onnx
//	max_batch_size: 32              # 0: the model has no batch dimension
//	slo: 50ms                       # answer online requests within
//	labels: {champion: 3}           # label -> version
//	version_policy: {latest: 2}     # or {all: true}, or {specific: [1, 3]}
//	inputs:                         # dims without the batch dimension
//	  - {name: ids, datatype: INT64, dims: [-1]}
//	outputs:
//	  - {name: scores, datatype: FP32, dims: [3], labels: [low, mid, high]}   # or label_file: labels.txt
//	batching:                       # or "off"; without it, just-in-time batching
//	  preferred_sizes: [8, 16]
//	  max_queue_delay: 2ms
//	  max_queue_size: 256
//	  default_timeout: 40ms
//	  allow_timeout_override: true
//	  timeout_action: reject        # or delay
//	  preserve_ordering: false
//	  priority_levels: 2
//	  default_priority: 1
//	sequence:                       # a stateful model: each step hands its state to the next
//	  idle_timeout: 1m              # forgotten after so long without a step
//	  state:                        # dims without the batch dimension; initial: zeros, one value for all, or all
//	    - {input: h, output: h_out, datatype: FP32, dims: [64], initial_dims: [64], initial: [0.5], visible: false}
//	generate:                       # a generative model: a request is answered step by step
//	  feedback: [{output: next, input: token}]   # what a step gives is what the next one takes
//	  max_steps: 256
//	  end: {output: next, value: 0} # the last step
//	features:                       # inputs that come from the feature store
//	  timeout: 100ms
//	  on_failure: error             # or default: the store cannot be read in time
//	  inputs:
//	    profile: {view: users, entity: {input: user}, features: [age, spend], max_age: 24h, on_missing: default}   # or error; entity: {header: X-User}
//	fallback: small@champion        # or a model, or @version of this one: answers what is refused for load
//	execution:
//	  provider: cpu                 # or cuda, tensorrt
//	  executors: 2                  # concurrent runs; 0: learned
//	  intra_threads: 1
//	  inter_threads: 0              # above 1: branches run in parallel
//	  arena: true                   # false gives memory back after each run
//	  optimization: all             # or disable, basic, extended
//	warmup:
//	  - {name: small, batch_size: 1, count: 3, inputs: {ids: {dims: [16], data: random}}}   # or zero
//	parameters: {owner: search}
//
// It is strict: an unknown key, a value out of bounds, an alias or a tag is an
// error that names the place and what was expected. source names the file in
// messages.
func ParseYAML(data []byte, source string) (Config, error) {
	return parse(data, source, yamlSyntax, parseYAML, readYAML)
}

// ParsePBText reads an unchanged Triton config.pbtxt, a ModelConfig message in
// protobuf's text format. What is not supported is refused by name where it
// would change answers, and named in Config.Warnings where it would not.
func ParsePBText(data []byte, source string) (Config, error) {
	return parse(data, source, textSyntax, parsePBText, readTriton)
}

// ParseTritonJSON reads a Triton ModelConfig in protobuf's JSON form, as the
// load API takes it: original or camelCase names, 64-bit integers as numbers or
// strings. It accepts and refuses what ParsePBText does.
func ParseTritonJSON(data []byte, source string) (Config, error) {
	return parse(data, source, jsonSyntax, parseJSON, readTriton)
}

func parse(data []byte, source string, syn syntax, tree func([]byte) (*node, error), read func(*section) Config) (Config, error) {
	if len(data) > maxDocBytes {
		return Config{}, fault.New(fault.TooLarge, "%s: has %d bytes; at most %d are allowed", source, len(data), maxDocBytes)
	}
	if !utf8.Valid(data) {
		return Config{}, fault.New(fault.Invalid, "%s: is not UTF-8 text", source)
	}
	root, err := tree(data)
	if err != nil {
		return Config{}, fault.New(fault.Invalid, "%s: %s", source, err)
	}
	d := &document{source: source, syntax: syn}
	s := d.section("", root)
	c := read(s)
	s.end()
	if d.err != nil {
		return Config{}, d.err
	}
	c.Source, c.Warnings = source, d.warnings
	if err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Settings that both forms share.

func (s *section) modelName() string {
	name := s.str("name")
	if name != "" {
		if err := ValidName(name); err != nil {
			s.fail(0, s.at("name"), "%s", err)
		}
	}
	return name
}

func (s *section) maxBatchSize() *int {
	v, ok := s.integer("max_batch_size", 0, maxBatch)
	if !ok {
		return nil
	}
	n := int(v)
	return &n
}

// dims returns extents of at least lo; nil where none are given.
func (s *section) dims(lo int64) tensor.Shape {
	dims := s.integers("dims", lo, maxDim)
	for _, d := range dims {
		if d == 0 {
			s.fail(s.node.line, s.at("dims"), "an extent must be at least 1, or -1 where it varies, got 0")
		}
	}
	if len(dims) > tensor.MaxDims {
		s.fail(s.node.line, s.at("dims"), "must have at most %d extents, got %d", tensor.MaxDims, len(dims))
	}
	return dims
}

func (s *section) portName() string {
	name := s.str("name")
	if name == "" {
		s.fail(s.node.line, s.at("name"), "must be given")
	}
	return name
}

func (s *section) fileName(key string) string {
	name := s.str(key)
	if name != "" {
		if err := validFile(name); err != nil {
			s.fail(s.node.line, s.at(key), "%s", err)
		}
	}
	return name
}

// distinct fails where a number is repeated.
func (s *section) distinct(key string, vs []int64) []int64 {
	for i, v := range vs {
		for _, w := range vs[:i] {
			if v == w {
				s.fail(s.node.line, s.at(key), "%d is given twice", v)
				return vs
			}
		}
	}
	return vs
}

func ints(vs []int64) []int {
	if vs == nil {
		return nil
	}
	out := make([]int, len(vs))
	for i, v := range vs {
		out[i] = int(v)
	}
	return out
}

// orNil drops settings that set nothing.
func orNil(b Batching) *Batching {
	if b.isZero() {
		return nil
	}
	return &b
}

// Names of the engine settings.
var (
	providers     = []string{"cpu", "cuda", "tensorrt"}
	optimizations = []string{"disable", "basic", "extended", "all"}
)
