package model

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/inference/tensor"
)

// TritonJSON returns a resolved configuration as Triton's ModelConfig JSON:
// original protobuf field names, primitives present even where they are zero,
// 64-bit integers as numbers. sig is the signature that Resolve returned.
// dims leave out the batch dimension, and dynamic_batching is there only where
// rows of different requests share runs. What ModelConfig has no field for
// travels as parameters "sluice.…" or, as descriptions and version labels, not
// at all. ParseTritonJSON reads it back.
func (c Config) TritonJSON(sig Signature) []byte {
	batch := 0
	if c.MaxBatchSize != nil {
		batch = *c.MaxBatchSize
	}
	platform, backend := Platform, "onnxruntime"
	if c.Platform == PlatformGraph {
		platform, backend = PlatformGraph, "sluice"
	}
	out := jsonConfig{
		Name: c.Name, Platform: platform, Backend: backend,
		VersionPolicy:        c.Policy.json(),
		MaxBatchSize:         batch,
		Input:                []jsonInput{},
		Output:               []jsonOutput{},
		BatchInput:           []struct{}{},
		BatchOutput:          []struct{}{},
		Optimization:         c.Execution.jsonOptimization(),
		InstanceGroup:        []jsonInstances{c.Execution.jsonInstances(c.Name)},
		DefaultModelFilename: c.Filename,
		ModelFilenames:       map[string]string{},
		MetricTags:           map[string]string{},
		Parameters:           c.jsonParameters(),
		ModelWarmup:          []jsonWarmup{},
	}
	for _, p := range sig.Inputs {
		out.Input = append(out.Input, jsonInput{Name: p.Name, DataType: tritonType(p.Datatype), Format: "FORMAT_NONE", Dims: p.dims(batch)})
	}
	for _, p := range sig.Outputs {
		o := jsonOutput{Name: p.Name, DataType: tritonType(p.Datatype), Dims: p.dims(batch)}
		if i := slices.IndexFunc(c.Outputs, func(c PortConfig) bool { return c.Name == p.Name }); i >= 0 {
			o.LabelFilename = c.Outputs[i].LabelFile
		}
		out.Output = append(out.Output, o)
	}
	out.SequenceBatching = c.Sequence.json()
	if c.Generate != nil {
		out.Transaction = &jsonTransaction{Decoupled: true}
	}
	if batch > 0 && !c.NoBatching && c.Sequence == nil { // at most one of the two
		out.DynamicBatching = c.Batching.json()
	}
	for _, w := range c.Warmup {
		out.ModelWarmup = append(out.ModelWarmup, w.json(c.Sequence))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		panic("model: a struct of strings and numbers did not encode: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// The messages of model_config.proto, as far as they are used.
type (
	jsonConfig struct {
		Name                 string                   `json:"name"`
		Platform             string                   `json:"platform"`
		Backend              string                   `json:"backend"`
		VersionPolicy        jsonPolicy               `json:"version_policy"`
		MaxBatchSize         int                      `json:"max_batch_size"`
		Input                []jsonInput              `json:"input"`
		Output               []jsonOutput             `json:"output"`
		BatchInput           []struct{}               `json:"batch_input"`
		BatchOutput          []struct{}               `json:"batch_output"`
		Optimization         jsonOptimization         `json:"optimization"`
		DynamicBatching      *jsonBatching            `json:"dynamic_batching,omitempty"`
		SequenceBatching     *jsonSequence            `json:"sequence_batching,omitempty"`
		Transaction          *jsonTransaction         `json:"model_transaction_policy,omitempty"`
		InstanceGroup        []jsonInstances          `json:"instance_group"`
		DefaultModelFilename string                   `json:"default_model_filename"`
		ModelFilenames       map[string]string        `json:"cc_model_filenames"`
		MetricTags           map[string]string        `json:"metric_tags"`
		Parameters           map[string]jsonParameter `json:"parameters"`
		ModelWarmup          []jsonWarmup             `json:"model_warmup"`
	}
	jsonPolicy struct {
		Latest   *jsonLatest   `json:"latest,omitempty"`
		All      *struct{}     `json:"all,omitempty"`
		Specific *jsonSpecific `json:"specific,omitempty"`
	}
	jsonLatest struct {
		NumVersions int `json:"num_versions"`
	}
	jsonSpecific struct {
		Versions []int64 `json:"versions"`
	}
	jsonInput struct {
		Name             string       `json:"name"`
		DataType         string       `json:"data_type"`
		Format           string       `json:"format"`
		Dims             tensor.Shape `json:"dims"`
		IsShapeTensor    bool         `json:"is_shape_tensor"`
		AllowRaggedBatch bool         `json:"allow_ragged_batch"`
		Optional         bool         `json:"optional"`
		IsNonLinear      bool         `json:"is_non_linear_format_io"`
	}
	jsonOutput struct {
		Name          string       `json:"name"`
		DataType      string       `json:"data_type"`
		Dims          tensor.Shape `json:"dims"`
		LabelFilename string       `json:"label_filename"`
		IsShapeTensor bool         `json:"is_shape_tensor"`
		IsNonLinear   bool         `json:"is_non_linear_format_io"`
	}
	jsonOptimization struct {
		Graph        *jsonGraph        `json:"graph,omitempty"`
		Priority     string            `json:"priority"`
		Accelerators *jsonAccelerators `json:"execution_accelerators,omitempty"`
		EagerBatch   bool              `json:"eager_batching"`
	}
	jsonGraph struct {
		Level int `json:"level"`
	}
	jsonAccelerators struct {
		GPU []jsonAccelerator `json:"gpu_execution_accelerator"`
		CPU []jsonAccelerator `json:"cpu_execution_accelerator"`
	}
	jsonAccelerator struct {
		Name       string            `json:"name"`
		Parameters map[string]string `json:"parameters"`
	}
	jsonBatching struct {
		PreferredSizes   []int           `json:"preferred_batch_size"`
		MaxQueueDelay    int64           `json:"max_queue_delay_microseconds"`
		PreserveOrdering bool            `json:"preserve_ordering"`
		PriorityLevels   int             `json:"priority_levels"`
		DefaultPriority  int             `json:"default_priority_level"`
		Queue            jsonQueuePolicy `json:"default_queue_policy"`
		PriorityQueue    struct{}        `json:"priority_queue_policy"`
	}
	jsonQueuePolicy struct {
		TimeoutAction  string `json:"timeout_action"`
		DefaultTimeout int64  `json:"default_timeout_microseconds"`
		AllowOverride  bool   `json:"allow_timeout_override"`
		MaxSize        int    `json:"max_queue_size"`
	}
	jsonInstances struct {
		Name       string     `json:"name"`
		Kind       string     `json:"kind"`
		Count      int        `json:"count"`
		GPUs       []int      `json:"gpus"`
		Secondary  []struct{} `json:"secondary_devices"`
		Profile    []string   `json:"profile"`
		Passive    bool       `json:"passive"`
		HostPolicy string     `json:"host_policy"`
	}
	jsonParameter struct {
		Value string `json:"string_value"`
	}
	jsonWarmup struct {
		Name      string                     `json:"name"`
		BatchSize int                        `json:"batch_size"`
		Count     int                        `json:"count"`
		Inputs    map[string]jsonWarmupInput `json:"inputs"`
	}
	jsonWarmupInput struct {
		DataType string       `json:"data_type"`
		Dims     tensor.Shape `json:"dims"`
		Zero     bool         `json:"zero_data,omitempty"`
		Random   bool         `json:"random_data,omitempty"`
	}
)

// tritonType returns the DataType enum's name: BYTES is TYPE_STRING there.
func tritonType(d tensor.Datatype) string {
	return tritonTypes[max(0, slices.Index(tritonDatatypes, d))]
}

// dims returns the shape without its batch dimension, never nil.
func (p *Port) dims(batch int) tensor.Shape {
	dims := p.Shape
	if batch > 0 && len(dims) > 0 {
		dims = dims[1:]
	}
	return append(tensor.Shape{}, dims...)
}

func (p VersionPolicy) json() jsonPolicy {
	switch {
	case len(p.Specific) > 0:
		return jsonPolicy{Specific: &jsonSpecific{p.Specific}}
	case p.All:
		return jsonPolicy{All: &struct{}{}}
	}
	return jsonPolicy{Latest: &jsonLatest{max(1, p.Latest)}}
}

func (b *Batching) json() *jsonBatching {
	if b == nil {
		b = &Batching{}
	}
	action := "REJECT"
	if b.TimeoutDelay {
		action = "DELAY"
	}
	return &jsonBatching{
		PreferredSizes:   append([]int{}, b.PreferredSizes...),
		MaxQueueDelay:    b.MaxQueueDelay.Microseconds(),
		PreserveOrdering: b.PreserveOrdering,
		PriorityLevels:   b.PriorityLevels,
		DefaultPriority:  b.DefaultPriority,
		Queue: jsonQueuePolicy{
			TimeoutAction:  action,
			DefaultTimeout: b.DefaultTimeout.Microseconds(),
			AllowOverride:  b.AllowTimeoutOverride,
			MaxSize:        b.MaxQueueSize,
		},
	}
}

func (e Execution) jsonOptimization() jsonOptimization {
	o := jsonOptimization{Priority: "PRIORITY_DEFAULT"}
	if level := map[string]int{"basic": -1, "extended": 1, "disable": 2}[e.Optimization]; level != 0 {
		o.Graph = &jsonGraph{level}
	}
	if e.Provider == "tensorrt" {
		o.Accelerators = &jsonAccelerators{
			GPU: []jsonAccelerator{{Name: "tensorrt", Parameters: map[string]string{}}},
			CPU: []jsonAccelerator{},
		}
	}
	return o
}

// jsonInstances gives a count of 0 where the number of executors is learned.
func (e Execution) jsonInstances(model string) jsonInstances {
	g := jsonInstances{Name: model, Kind: "KIND_CPU", Count: e.Executors, GPUs: []int{}, Secondary: []struct{}{}, Profile: []string{}}
	if e.Provider == "cuda" || e.Provider == "tensorrt" {
		g.Kind, g.GPUs = "KIND_GPU", []int{0}
	}
	return g
}

func (c Config) jsonParameters() map[string]jsonParameter {
	out := map[string]jsonParameter{}
	for key, value := range c.Parameters {
		out[key] = jsonParameter{value}
	}
	set := func(on bool, key, value string) {
		if on {
			out[key] = jsonParameter{value}
		}
	}
	e := c.Execution
	set(e.IntraThreads > 0, "intra_op_thread_count", strconv.Itoa(e.IntraThreads))
	set(e.InterThreads > 1, "inter_op_thread_count", strconv.Itoa(e.InterThreads))
	set(e.InterThreads > 1, "execution_mode", "1")
	set(e.NoArena, "enable_mem_arena", "0")
	set(c.SLO > 0, paramSLO, c.SLO.String())
	set(c.NoBatching, paramBatching, "off")
	set(c.Fallback != (Fallback{}), paramFallback, c.Fallback.String())
	if c.Features != nil {
		set(true, paramFeatures, c.Features.text())
	}
	if c.Generate != nil {
		set(true, paramGenerate, c.Generate.text())
	}
	if c.Sequence != nil {
		for _, t := range c.Sequence.States {
			set(len(t.Initial) > 0, paramInitial+t.Input, "["+strings.Join(t.Initial, ",")+"]")
		}
	}
	return out
}

// json leaves out the states, which Resolve gives each warm-up again.
func (w Warmup) json(q *Sequence) jsonWarmup {
	out := jsonWarmup{Name: w.Name, BatchSize: w.BatchSize, Count: w.Count, Inputs: map[string]jsonWarmupInput{}}
	for name, in := range w.Inputs {
		if q.takes(name) {
			continue
		}
		out.Inputs[name] = jsonWarmupInput{
			DataType: tritonType(in.Datatype),
			Dims:     append(tensor.Shape{}, in.Dims...),
			Zero:     !in.Random,
			Random:   in.Random,
		}
	}
	return out
}
