package model

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/inference/tensor"
)

const fullYAML = `# Everything at once.
name: ranker
description: "Ranks documents: best first."
filename: ranker.onnx
max_batch_size: 16
slo: 40ms
labels: {champion: 1, challenger: 2}
version_policy:
  specific: [1, 2]
inputs:
  - name: ids
    datatype: INT64
    dims: [-1]
  - {name: title, datatype: BYTES, dims: [1], optional: true}
outputs:
  - name: scores
    labels: [low, mid, "high"]
  - name: topic
    label_file: topics.txt
batching:
  preferred_sizes: [4, 8]
  max_queue_delay: 1500us
  max_queue_size: 64
  default_timeout: 250ms
  allow_timeout_override: true
  timeout_action: delay
  priority_levels: 3
  default_priority: 2
execution:
  provider: cuda
  executors: 2
  intra_threads: 3
  inter_threads: 4
  arena: false
  optimization: extended
warmup:
  - name: small
    batch_size: 2
    inputs:
      ids: {datatype: INT64, dims: [7], data: random}
      title: {dims: [1]}
parameters:
  owner: search
  revision: 7
`

func TestYAMLFull(t *testing.T) {
	got, err := ParseYAML([]byte(fullYAML), "config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name: "ranker", Description: "Ranks documents: best first.", Filename: "ranker.onnx", MaxBatchSize: size(16),
		SLO:    40 * time.Millisecond,
		Labels: map[string]int64{"champion": 1, "challenger": 2},
		Policy: VersionPolicy{Specific: []int64{1, 2}},
		Inputs: []PortConfig{
			{Name: "ids", Datatype: tensor.Int64, Dims: tensor.Shape{-1}},
			{Name: "title", Datatype: tensor.Bytes, Dims: tensor.Shape{1}, Optional: true},
		},
		Outputs: []PortConfig{{Name: "scores", Labels: []string{"low", "mid", "high"}}, {Name: "topic", LabelFile: "topics.txt"}},
		Batching: &Batching{
			PreferredSizes: []int{4, 8}, MaxQueueDelay: 1500 * time.Microsecond, MaxQueueSize: 64,
			DefaultTimeout: 250 * time.Millisecond, AllowTimeoutOverride: true, TimeoutDelay: true,
			PriorityLevels: 3, DefaultPriority: 2,
		},
		Execution: Execution{Provider: "cuda", Executors: 2, IntraThreads: 3, InterThreads: 4, NoArena: true, Optimization: "extended"},
		Warmup: []Warmup{{Name: "small", BatchSize: 2, Count: 1, Inputs: map[string]WarmupInput{
			"ids":   {Datatype: tensor.Int64, Dims: tensor.Shape{7}, Random: true},
			"title": {Dims: tensor.Shape{1}},
		}}},
		Parameters: map[string]string{"owner": "search", "revision": "7"},
		Source:     "config.yaml",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestYAMLSmall(t *testing.T) {
	for text, want := range map[string]Config{
		"":                            {},
		"# only a comment\n":          {},
		"---\n":                       {},
		"---\nname: m\n...\n":         {Name: "m"},
		"name: ~":                     {},
		"batching: off":               {NoBatching: true},
		"batching: {}":                {},
		"batching:":                   {},
		"max_batch_size: 0":           {MaxBatchSize: size(0)},
		"fallback: small":             {Fallback: Fallback{Model: "small"}},
		"fallback: small@stable":      {Fallback: Fallback{Model: "small", Version: "stable"}},
		`fallback: "@1"`:              {Fallback: Fallback{Version: "1"}},
		"execution: {arena: true}":    {},
		"version_policy: {all: true}": {Policy: VersionPolicy{All: true}},
		"version_policy: {latest: 2}": {Policy: VersionPolicy{Latest: 2}},
	} {
		got, err := ParseYAML([]byte(text), "")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v %s", text, err, diff)
		}
	}
}

func TestYAMLRefusals(t *testing.T) {
	bomb := "a0: &a0 [x, x]\n"
	for i := range 30 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "name: m\nmax_batchsize: 4", `c:2: unknown key "max_batchsize": did you mean "max_batch_size"?`},
		{"nested", "execution:\n  threads: 4", `c:2: execution: unknown key "threads": use one of arena, executors,`},
		{"camel case", "maxBatchSize: 4", `did you mean "max_batch_size"?`},
		{"twice", "name: a\nname: b", `key "name" is given twice`},
		{"alias bomb", bomb, "anchors and aliases are not supported"},
		{"merge", "<<: {name: m}", "merge keys are not supported"},
		{"tag", "name: !!binary aGk=", "tag"},
		{"own tag", "name: !thing x", "tag"},
		{"second document", "name: a\n---\nname: b", "single YAML document"},
		{"broken second document", "name: a\n---\n{", "single YAML document"},
		{"syntax", "name: [", "not valid YAML"},
		{"tab", "a:\n\t- b", "not valid YAML"},
		{"list", "- a", "must be a group of settings, got a list"},
		{"scalar", "hello", "must be a group of settings, got a word"},
		{"deep", strings.Repeat("[", 200) + strings.Repeat("]", 200), "depth"},
		{"complex key", "? [a]\n: b", "a key must be a word"},
		{"slo without unit", "slo: 50", `slo: must be a duration of 0s to 24h0m0s such as 50ms, got "50"`},
		{"slo negative", "slo: -1s", "slo: must be a duration"},
		{"slo of years", "slo: 9999h", "slo: must be a duration"},
		{"batch word", "max_batch_size: many", `max_batch_size: must be an integer of 0 to 65536, got "many"`},
		{"batch hex", "max_batch_size: 0x10", "must be an integer"},
		{"batch quoted", "max_batch_size: '4'", "must be an integer"},
		{"batch list", "max_batch_size: [4]", "got a list"},
		{"numeric label", "labels: {\"12\": 1}", "must not be a number"},
		{"label of nothing", "labels: {best: newest}", `labels["best"]: must be an integer of 1`},
		{"label with slash", "labels: {a/b: 1}", "without slashes"},
		{"policies", "version_policy: {latest: 1, all: true}", "got 2 of them"},
		{"empty specific", "version_policy: {specific: []}", "must name at least one version"},
		{"double specific", "version_policy: {specific: [2, 2]}", "2 is given twice"},
		{"datatype", "inputs: [{name: x, datatype: float32}]", `unknown datatype "float32"`},
		{"both labels", "outputs: [{name: x, labels: [a], label_file: f}]", "cannot be given beside labels"},
		{"provider", "execution: {provider: tpu}", `must be one of cpu, cuda, tensorrt, got "tpu"`},
		{"threads", "execution: {intra_threads: 5000}", "must be an integer of 0 to 1024"},
		{"arena", "execution: {arena: maybe}", "must be true or false"},
		{"batching word", "batching: never", "batching: must be a group of settings"},
		{"action", "batching: {timeout_action: wait}", "must be one of reject, delay"},
		{"warmup dims", "warmup: [{inputs: {x: {dims: [-1]}}}]", "must be an integer of 1"},
		{"file name", "filename: ../model.onnx", "must be a file name without folders"},
		{"features of nothing", "features: {inputs: {}}", "must be 1 to 64 inputs"},
		{"features without a view", "features: {inputs: {x: {features: [a], entity: {input: u}}}}", "view: must be given"},
		{"features without entities", "features: {inputs: {x: {view: v, features: [a]}}}", "must be one of input and header"},
		{"features of two entities", "features: {inputs: {x: {view: v, features: [a], entity: {input: u, header: U}}}}", "must be one of input and header"},
		{"features without features", "features: {inputs: {x: {view: v, entity: {input: u}}}}", "must name 1 to 256 features"},
		{"features by numbers", "features: {inputs: {x: {view: v, features: [a], entity: {input: u, datatype: FP32}}}}", "must be BYTES or INT64"},
		{"features by chance", "features: {inputs: {x: {view: v, features: [a], entity: {input: u}, on_missing: guess}}}", "must be one of default, error"},
		{"fallback of nothing", `fallback: "@"`, "a fallback is name, name@version or @version"},
		{"fallback without its version", "fallback: m@", "a fallback is name, name@version or @version"},
		{"fallback of a folder", "fallback: ../m", "must not contain slashes"},
		{"fallback's version", "fallback: m@a/b", "without slashes"},
		{"fallback to itself", "name: m\nfallback: m", "cannot fall back to itself"},
		{"fallback of steps", "fallback: m\ngenerate: {feedback: [{output: a, input: b}]}", "keeps state or answers step by step"},
		{"name", "name: stats", "/v2/models/stats"},
		{"null in a list", "version_policy: {specific: [~]}", "got nothing"},
		{"large", "name: " + strings.Repeat("x", maxDocBytes), "at most 1048576 are allowed"},
		{"many values", "warmup: [" + strings.Repeat("1,", 60_000) + "]", "more than 50000 values"},
		{"long string", "description: " + strings.Repeat("x", 5000), "must have at most 4096 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseYAML([]byte(c.text), "c")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
