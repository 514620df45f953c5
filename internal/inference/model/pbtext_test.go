package model

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/inference/tensor"
)

func size(n int) *int { return &n }

// fullPBText uses every construct of the text format and every supported field.
const fullPBText = `# A comment before anything else.
name: "doc" "ument_" 'ranker'   # adjacent strings join
platform: "onnxruntime_onnx";
backend: 'onnxruntime',
max_batch_size: 0x10
default_model_filename: "ranker.onnx"
version_policy: { specific { versions: [1, 3] versions: 5 } }
input [
  {
    name: "ids"
    data_type: TYPE_INT64
    dims: [ -1 ]
    format: FORMAT_NONE
    is_shape_tensor: false
  },
  { name: "title" data_type: 13 dims: 1 dims: 2; optional: t }
]
input < name: "mask", data_type: TYPE_BF16, dims: [ - 1 ], reshape { shape: [ -1 ] } >
output {
  name: "scores\x20\"\101\u00e9\U0001F600\n\\"
  data_type: TYPE_FP32
  dims: [ 3 ]
  label_filename: "labels.txt"
}
dynamic_batching {
  preferred_batch_size: [ 4, 010 ]
  max_queue_delay_microseconds: 1500
  priority_levels: 1 default_priority_level: 1
  preserve_ordering: True
  default_queue_policy {
    timeout_action: REJECT
    default_timeout_microseconds: 250000
    allow_timeout_override: 1
    max_queue_size: 64
  }
}
instance_group [ { name: "a" count: 2 kind: KIND_CPU }, { count: 1 kind: KIND_CPU } ]
optimization {
  graph: { level: -1 }
  input_pinned_memory { enable: true }
}
parameters: { key: "intra_op_thread_count" value: { string_value: "3" } }
parameters { key: "inter_op_thread_count" value { string_value: "4" } }
parameters [
  { key: "execution_mode" value < string_value: "1" > },
  { key: "enable_mem_arena", value { string_value: "0" } }
]
parameters { key: "sluice.slo" value { string_value: "40ms" } }
parameters { key: "owner" value { string_value: "search" } }
model_warmup {
  name: "small" batch_size: 1 count: 2
  inputs { key: "ids" value { data_type: TYPE_INT64 dims: 7 random_data: true } }
  inputs { key: "title" value { data_type: TYPE_STRING dims: [1, 2] zero_data: true } }
}
`

func TestPBTextGrammar(t *testing.T) {
	got, err := ParsePBText([]byte(fullPBText), "config.pbtxt")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name: "document_ranker", Platform: Platform, Filename: "ranker.onnx", MaxBatchSize: size(16),
		SLO:    40 * time.Millisecond,
		Policy: VersionPolicy{Specific: []int64{1, 3, 5}},
		Inputs: []PortConfig{
			{Name: "ids", Datatype: tensor.Int64, Dims: tensor.Shape{-1}},
			{Name: "title", Datatype: tensor.Bytes, Dims: tensor.Shape{1, 2}, Optional: true},
			{Name: "mask", Datatype: tensor.BF16, Dims: tensor.Shape{-1}},
		},
		Outputs: []PortConfig{{Name: "scores \"Aé😀\n\\", Datatype: tensor.FP32, Dims: tensor.Shape{3}, LabelFile: "labels.txt"}},
		Batching: &Batching{
			PreferredSizes: []int{4, 8}, MaxQueueDelay: 1500 * time.Microsecond, MaxQueueSize: 64,
			DefaultTimeout: 250 * time.Millisecond, AllowTimeoutOverride: true,
			PreserveOrdering: true, PriorityLevels: 1, DefaultPriority: 1,
		},
		Execution: Execution{Provider: "cpu", Executors: 3, IntraThreads: 3, InterThreads: 4, NoArena: true, Optimization: "basic"},
		Warmup: []Warmup{{Name: "small", BatchSize: 1, Count: 2, Inputs: map[string]WarmupInput{
			"ids":   {Datatype: tensor.Int64, Dims: tensor.Shape{7}, Random: true},
			"title": {Datatype: tensor.Bytes, Dims: tensor.Shape{1, 2}},
		}}},
		Parameters: map[string]string{"owner": "search"},
		Source:     "config.pbtxt",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPBTextSmallestConfigs(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "\n\n", "name: \"m\"", "dynamic_batching {}", "dynamic_batching: <>", "version_policy { latest {} }"} {
		c, err := ParsePBText([]byte(text), "c")
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if c.Batching != nil || c.MaxBatchSize != nil {
			t.Errorf("%q sets %+v, %v", text, c.Batching, c.MaxBatchSize)
		}
	}
}

func TestPBTextRefusals(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "name: 'm'\nmax_batchsize: 4", `c:2: unknown key "max_batchsize": did you mean "max_batch_size"?`},
		{"far key", "zzzzzzzzzzzz: 4", `unknown key "zzzzzzzzzzzz": use one of backend,`},
		{"nested unknown key", "dynamic_batching {\n max_queue_delay_us: 4 }", `c:2: dynamic_batching: unknown key "max_queue_delay_us"`},
		{"sequence batching", "sequence_batching { direct { max_queue_delay_microseconds: 1 } }", "sequence_batching.state: must list 1 to 256 states, got 0"},
		{"sequence batching by default settings", "sequence_batching { }", "sequence_batching.state: must list 1 to 256 states, got 0"},
		{"nameless state", "sequence_batching { state { input_name: 'h' } }", "sequence_batching.state[0].output_name: must be given"},
		{"control input", "sequence_batching { state { input_name: 'h' output_name: 'g' } control_input { name: 'START' } }", "control_input: is not supported"},
		{"iterative", "sequence_batching { state { input_name: 'h' output_name: 'g' } iterative_sequence: true }", "sluice.generate"},
		{"state from a file", "sequence_batching { state { input_name: 'h' output_name: 'g' initial_state { dims: 2 data_file: 'f' } } }", "in the parameter sluice.initial.h"},
		{"two initial states", "sequence_batching { state { input_name: 'h' output_name: 'g' initial_state { dims: 2 } initial_state { dims: 2 } } }", "is given twice"},
		{"initial values of nothing", "parameters { key: 'sluice.initial.h' value { string_value: '[1]' } }", `"h" is not the input of a state`},
		{"initial values", "sequence_batching { state { input_name: 'h' output_name: 'g' } } parameters { key: 'sluice.initial.h' value { string_value: '[[1]]' } }", "must be a value, got a list"},
		{"no JSON", "parameters { key: 'sluice.generate' value { string_value: '{' } }", "must be JSON"},
		{"wrong JSON", "parameters { key: 'sluice.generate' value { string_value: '{\"feedbacks\":[]}' } }", `did you mean "feedback"?`},
		{"batching and sequence", "dynamic_batching { max_queue_delay_microseconds: 5 } sequence_batching { state { input_name: 'h' output_name: 'g' } }", "has no settings beside a sequence"},
		{"ensemble", "ensemble_scheduling { step [ { model_name: 'a' } ] }", "ensemble_scheduling: is not supported"},
		{"decoupled", "model_transaction_policy { decoupled: True }", "model_transaction_policy.decoupled: is not supported"},
		{"operations", "model_operations { op_library_filename: [ 'x.so' ] }", "model_operations: is not supported"},
		{"agents", "model_repository_agents { agents [ { name: 'checksum' } ] }", "model_repository_agents: is not supported"},
		{"backend", "backend: 'pytorch'", `backend: must be one of onnxruntime, sluice, got "pytorch"`},
		{"platform", "platform: 'ensemble'", `platform: must be one of onnxruntime_onnx, sluice_graph, got "ensemble"`},
		{"platform as a word", "platform: onnxruntime_onnx", "platform: must be a string"},
		{"ragged", "input { name: 'x' allow_ragged_batch: true }", "input[0].allow_ragged_batch: is not supported"},
		{"shape tensor", "input { name: 'x' is_shape_tensor: true }", "is_shape_tensor: is not supported"},
		{"reshape", "input { name: 'x' dims: 1 reshape { shape: [] } }", "input[0].reshape: is not supported: remove it and set dims to [], the shape that the model takes"},
		{"nameless port", "output { dims: 1 }", "output[0].name: must be given"},
		{"double port", "input { name: 'x' } input { name: 'x' }", `input: "x" is given twice`},
		{"zero dim", "input { name: 'x' dims: [2, 0] }", "an extent must be at least 1"},
		{"dim -2", "input { name: 'x' dims: -2 }", "input[0].dims[0]: must be an integer of -1 to"},
		{"many dims", "input { name: 'x' dims: [" + strings.Repeat("1,", 16) + "1] }", "must have at most 16 extents"},
		{"datatype", "input { name: 'x' data_type: TYPE_FLOAT }", "must be one of TYPE_INVALID, TYPE_BOOL"},
		{"datatype number", "input { name: 'x' data_type: 15 }", `got "15"`},
		{"quoted enum", "input { name: 'x' data_type: 'TYPE_FP32' }", "must be one of"},
		{"label path", "output { name: 'x' label_filename: '../labels' }", "must be a file name without folders"},
		{"negative batch", "max_batch_size: -1", "max_batch_size: must be an integer of 0 to 65536"},
		{"huge batch", "max_batch_size: 99999999999999999999", "max_batch_size: must be an integer"},
		{"fraction", "max_batch_size: 1.5", `got "1.5"`},
		{"quoted number", "max_batch_size: '4'", "max_batch_size: must be an integer"},
		{"list for one", "max_batch_size: [4]", "got a list"},
		{"twice", "max_batch_size: 4\nmax_batch_size: 4", "c:2: max_batch_size: is given twice"},
		{"two policies", "version_policy { all {} latest {} }", "must be one of latest, all and specific, got 2"},
		{"empty specific", "version_policy { specific {} }", "must name at least one version"},
		{"version 0", "version_policy { specific { versions: 0 } }", "must be an integer of 1"},
		{"preferred too big", "max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }", "preferred size 8 is more than the max_batch_size 4"},
		{"preferred 0", "dynamic_batching { preferred_batch_size: 0 }", "must be an integer of 1"},
		{"priority", "dynamic_batching { priority_levels: 2 }", "default priority must be 1 to the number of priority levels"},
		{"order and priority", "dynamic_batching { priority_levels: 2 default_priority_level: 1 preserve_ordering: true }", "preserve_ordering allows only one"},
		{"order and delay", "dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 } }", "rules out"},
		{"kinds differ", "instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]", "must be the same in every group"},
		{"kind model", "instance_group { kind: KIND_MODEL }", "must be one of KIND_AUTO, KIND_GPU, KIND_CPU"},
		{"second gpu", "instance_group { kind: KIND_GPU gpus: [ 1 ] }", "must start with GPU 0"},
		{"passive", "instance_group { passive: true }", "passive: is not supported"},
		{"too many instances", "instance_group [ { count: 1000 }, { count: 1000 } ]", "must add up to at most 1024"},
		{"openvino", "optimization { execution_accelerators { cpu_execution_accelerator { name: 'openvino' } } }", "cpu_execution_accelerator: is not supported"},
		{"accelerator", "optimization { execution_accelerators { gpu_execution_accelerator { name: 'x' } } }", "must be one of tensorrt, cuda"},
		{"level", "optimization { graph { level: 3 } }", "must be an integer of -1 to 2"},
		{"threads", "parameters { key: 'intra_op_thread_count' value { string_value: 'many' } }", `parameters["intra_op_thread_count"]: must be an integer of 0 to 1024, got "many"`},
		{"arena", "parameters { key: 'enable_mem_arena' value { string_value: 'yes' } }", `must be "0" or "1"`},
		{"double parameter", "parameters { key: 'a' } parameters { key: 'a' }", `key "a" is given twice`},
		{"bad slo", "parameters { key: 'sluice.slo' value { string_value: '-1s' } }", "must be a duration"},
		{"warmup batch", "max_batch_size: 2 model_warmup { name: 'w' batch_size: 3 }", `"w" has batch size 3, more than the max_batch_size 2`},
		{"bad name", "name: 'a/b'", "must not contain slashes"},
		{"not UTF-8 in an escape", `name: "\377"`, "must be UTF-8 text"},
		// Syntax.
		{"no colon", "max_batch_size 4", `c: line 1: expected ":" or a message after max_batch_size`},
		{"no value", "name:", "expected a value, got the end of the file"},
		{"open message", "input {\n name: 'x'\n", `line 1: the message that starts here is not closed with "}"`},
		{"wrong close", "input { name: 'x' >", "expected a field name"},
		{"stray close", "}", "expected a field name"},
		{"open list", "input [ { name: 'x' }", `expected "," or "]"`},
		{"trailing comma", "dims: [1,]", "expected a value"},
		{"nested list", "dims: [[1]]", "expected a value"},
		{"scalar list without colon", "dims [1]", `expected ":" before the values of dims`},
		{"extension", "[com.example.ext]: 1", "extension fields are not supported"},
		{"open string", `name: "m`, "a string does not end"},
		{"string over lines", "name: \"m\n\"", "line 1: a string does not end on its line"},
		{"escape", `name: "\q"`, `unknown escape \q`},
		{"short escape", `name: "\u12"`, `escape \u needs 4 digits`},
		{"surrogate", `name: "\ud800"`, "out of range"},
		{"octal", `name: "\777"`, "out of range"},
		{"empty hex", `name: "\xg"`, `escape \x needs 1 digits`},
		{"lone minus", "max_batch_size: -", `expected a number after "-"`},
		{"character", "name = 'm'", `unexpected character '='`},
		{"plus", "max_batch_size: +4", `unexpected character '+'`},
		{"C comment", "// hello", "unexpected character '/'"},
		{"deep", strings.Repeat("a{", 40), "nested more than 32 deep"},
		{"not text", "name: '\xff'", "is not UTF-8 text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParsePBText([]byte(c.text), "c")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestPBTextWarnings(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"response_cache { enable: true }", "c:1: response_cache: has no effect"},
		{"metric_tags { key: 'a' value: 'b' }", "metric_tags"},
		{"cc_model_filenames [ { key: '8.0' value: 'b' } ]", "cc_model_filenames"},
		{"input { name: 'x'\nformat: FORMAT_NCHW }", "c:2: input[0].format"},
		{"dynamic_batching { priority_levels: 1 default_priority_level: 1 priority_queue_policy { key: 1 value { max_queue_size: 3 } } }", "priority_queue_policy"},
		{"instance_group { kind: KIND_GPU gpus: [0, 1] }", "only GPU 0 is used"},
		{"instance_group { rate_limiter { priority: 2 } }", "rate_limiter"},
		{"instance_group { host_policy: 'h' }", "host_policy"},
		{"optimization { priority: PRIORITY_MAX }", "optimization.priority"},
		{"optimization { cuda { graphs: true } }", "optimization.cuda"},
		{"optimization { eager_batching: true }", "eager_batching"},
		{"instance_group { kind: KIND_CPU } optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' } } }", "KIND_CPU"},
		{"parameters { key: 'enable_mem_pattern' value { string_value: '0' } }", "enable_mem_pattern"},
		{"parameters { key: 'execution_mode' value { string_value: '1' } }", "inter_op_thread_count above 1"},
		{"model_warmup { inputs { key: 'x' value { input_data_file: 'f' } } }", "zeros are used"},
	} {
		got, err := ParsePBText([]byte(c.text), "c")
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		} else if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], c.want) {
			t.Errorf("%q warns %q, want one with %q", c.text, got.Warnings, c.want)
		}
	}
}

func TestTritonProviders(t *testing.T) {
	trt := "optimization { execution_accelerators { gpu_execution_accelerator : [ { name : 'cuda' }, { name : 'tensorrt' parameters { key: 'precision_mode' value: 'FP16' } } ] } }"
	for text, want := range map[string]Execution{
		"":                                    {},
		"instance_group { count: 2 }":         {Executors: 2},
		"instance_group { kind: KIND_GPU }":   {Provider: "cuda"},
		"instance_group { kind: KIND_CPU }":   {Provider: "cpu"},
		trt:                                   {Provider: "tensorrt"},
		"instance_group { kind: 1 }\n" + trt:  {Provider: "tensorrt"},
		"instance_group { kind: 2 }\n" + trt:  {Provider: "cpu"},
		"optimization { graph { level: 2 } }": {Optimization: "disable"},
		"parameters { key: 'inter_op_thread_count' value { string_value: '8' } }": {}, // sequential execution ignores it
	} {
		got, err := ParsePBText([]byte(text), "c")
		if err != nil || got.Execution != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got.Execution, err, want)
		}
	}
}
