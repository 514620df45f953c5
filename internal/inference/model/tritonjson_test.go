package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/inference/tensor"
)

func TestTritonJSONForms(t *testing.T) {
	want := Config{
		Name: "m", MaxBatchSize: size(8), Source: "c",
		Inputs:     []PortConfig{{Name: "x", Datatype: tensor.FP32, Dims: tensor.Shape{4, -1}}},
		Batching:   &Batching{MaxQueueDelay: time.Millisecond},
		Parameters: map[string]string{"max_batch_size": "kept", "camelCase": "kept"},
	}
	for _, text := range []string{
		`{"name":"m","max_batch_size":8,"input":[{"name":"x","data_type":"TYPE_FP32","dims":[4,-1]}],
		  "dynamic_batching":{"max_queue_delay_microseconds":1000},
		  "parameters":{"max_batch_size":{"string_value":"kept"},"camelCase":{"string_value":"kept"}}}`,
		`{"name":"m","maxBatchSize":8.0,"input":[{"name":"x","dataType":11,"dims":["4","-1"]}],
		  "dynamicBatching":{"maxQueueDelayMicroseconds":"1000","priorityQueuePolicy":{}},
		  "parameters":{"max_batch_size":{"stringValue":"kept"},"camelCase":{"stringValue":"kept"}},
		  "output":null,"batchInput":[],"responseCache":{"enable":false},"runtime":""}`,
	} {
		got, err := ParseTritonJSON([]byte(text), "c")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	}
}

func TestTritonJSONRefusals(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, "not valid JSON"},
		{`[]`, "must be a group of settings, got a list"},
		{`{"name":"m"} x`, "has text after"},
		{`{"name":"m"`, "not valid JSON"},
		{`{"name":"m","name":"m"}`, `key "name" is given twice`},
		{`{"max_batch_size":1,"maxBatchSize":1}`, "max_batch_size: is given twice"},
		{`{"max_batch_size":1e30}`, "must be an integer"},
		{`{"max_batch_size":true}`, "must be an integer"},
		{"{\n\"max_batch\":1}", `c:2: unknown key "max_batch": did you mean "max_batch_size"?`},
		{`{"input":{"name":"x"}}`, "input: must be a list"},
		{`{"input":[{"name":7}]}`, `must be a string, got "7"`},
		{`{"parameters":[{"key":"a"}]}`, "parameters: must be a group of settings, got a list"},
		{`{"parameters":{"a":"b"}}`, `parameters["a"]: must be a group of settings`},
		{`{"input":[{"name":"x","optional":"true"}]}`, "must be true or false"},
		{`{"model_transaction_policy":{"decoupled":true}}`, "is not supported"},
		{strings.Repeat("[", 500) + strings.Repeat("]", 500), "nested more than 32 deep"},
		{`{"a":[` + strings.Repeat("0,", 60_000) + `0]}`, "more than 50000 values"},
	} {
		if _, err := ParseTritonJSON([]byte(c.text), "c"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: got %v, want %q", c.text, err, c.want)
		}
	}
}

// What perf_analyzer reads must be there, and nothing that it would take for
// more than the model does.
func TestTritonJSONForClients(t *testing.T) {
	sig := Signature{
		Inputs:  []Port{{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 4}}, {Name: "s", Datatype: tensor.Bytes, Shape: tensor.Shape{-1}}},
		Outputs: []Port{{Name: "y", Datatype: tensor.BF16, Shape: tensor.Shape{-1, 3}}},
	}
	cfg, sig, err := Resolve(Config{Name: "a<b"}, sig, Defaults{MaxBatch: 8})
	if err != nil {
		t.Fatal(err)
	}
	text := string(cfg.TritonJSON(sig))
	for _, want := range []string{
		`"name":"a<b","platform":"onnxruntime_onnx","backend":"onnxruntime"`, `"max_batch_size":8`, `"dynamic_batching":{`,
		`{"name":"x","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[4],`, `"data_type":"TYPE_STRING","format":"FORMAT_NONE","dims":[]`,
		`"data_type":"TYPE_BF16","dims":[3]`, `"version_policy":{"latest":{"num_versions":1}}`, `"is_shape_tensor":false`, `"optional":false`,
		`"sluice.slo":{"string_value":"100ms"}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
	for _, c := range []func(*Config){
		func(c *Config) { c.NoBatching = true },
		func(c *Config) { *c.MaxBatchSize = 0 },
	} {
		quiet := cfg.clone()
		c(&quiet)
		text := string(quiet.TritonJSON(sig))
		for _, not := range []string{"dynamic_batching", "sequence_batching", "model_transaction_policy", "response_cache"} {
			if strings.Contains(text, not) {
				t.Errorf("%s\nhas %s", text, not)
			}
		}
	}
}

var drawName = rapid.StringMatching(`[a-z][a-zA-Z0-9 .é"\\<-]{0,8}`)

func drawPorts(t *rapid.T, label string, batch bool) []Port {
	names := rapid.SliceOfNDistinct(drawName, 1, 3, rapid.ID).Draw(t, label)
	var ports []Port
	for _, name := range names {
		shape := tensor.Shape(rapid.SliceOfN(rapid.SampledFrom([]int64{-1, 1, 2, 7}), 0, 3).Draw(t, "dims"))
		if batch {
			shape = append(tensor.Shape{-1}, shape...)
		}
		ports = append(ports, Port{Name: name, Datatype: rapid.SampledFrom(tritonDatatypes[1:]).Draw(t, "type"), Shape: shape})
	}
	return ports
}

func drawBatching(t *rapid.T, most int) *Batching {
	micros := rapid.Map(rapid.Int64Range(0, 1e6), func(n int64) time.Duration { return time.Duration(n) * time.Microsecond })
	b := Batching{
		PreferredSizes:       rapid.SliceOfNDistinct(rapid.IntRange(1, most), -1, 3, rapid.ID).Draw(t, "preferred"),
		MaxQueueDelay:        micros.Draw(t, "delay"),
		MaxQueueSize:         rapid.IntRange(0, 100).Draw(t, "queue"),
		DefaultTimeout:       micros.Draw(t, "timeout"),
		AllowTimeoutOverride: rapid.Bool().Draw(t, "override"),
		TimeoutDelay:         rapid.Bool().Draw(t, "action"),
		PriorityLevels:       rapid.IntRange(0, 3).Draw(t, "levels"),
	}
	if b.PriorityLevels > 0 {
		b.DefaultPriority = rapid.IntRange(1, b.PriorityLevels).Draw(t, "priority")
	}
	b.PreserveOrdering = b.PriorityLevels < 2 && !b.TimeoutDelay && rapid.Bool().Draw(t, "order")
	if len(b.PreferredSizes) == 0 {
		b.PreferredSizes = nil
	}
	return orNil(b)
}

func drawConfig(t *rapid.T) (Config, Signature) {
	batch := rapid.IntRange(0, 64).Draw(t, "batch")
	sig := Signature{Inputs: drawPorts(t, "inputs", batch > 0), Outputs: drawPorts(t, "outputs", batch > 0)}
	e := Execution{
		Provider:     rapid.SampledFrom(append(providers, "")).Draw(t, "provider"),
		Executors:    rapid.IntRange(0, 4).Draw(t, "executors"),
		IntraThreads: rapid.IntRange(0, 4).Draw(t, "intra"),
		InterThreads: rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "inter"),
		NoArena:      rapid.Bool().Draw(t, "arena"),
		Optimization: rapid.SampledFrom(append(optimizations, "")).Draw(t, "optimization"),
	}
	c := Config{
		Name: "m", MaxBatchSize: &batch, Execution: e,
		SLO:        time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "slo")),
		Policy:     rapid.SampledFrom([]VersionPolicy{{}, {All: true}, {Latest: 3}, {Specific: []int64{1, 1 << 60}}}).Draw(t, "policy"),
		Parameters: rapid.MapOfN(drawName, rapid.String(), 0, 3).Filter(func(m map[string]string) bool { return !strings.Contains(fmt.Sprint(m), "\x00") }).Draw(t, "parameters"),
	}
	if batch > 0 {
		c.Batching = drawBatching(t, batch)
		c.NoBatching = c.Batching == nil && rapid.Bool().Draw(t, "no batching")
	}
	if rapid.Bool().Draw(t, "warm") {
		w := Warmup{Name: "w", BatchSize: min(1, batch), Count: rapid.IntRange(1, 3).Draw(t, "count"), Inputs: map[string]WarmupInput{}}
		for _, p := range sig.Inputs {
			var dims tensor.Shape
			for _, d := range p.dims(batch) {
				dims = append(dims, max(1, d))
			}
			w.Inputs[p.Name] = WarmupInput{Datatype: p.Datatype, Dims: dims, Random: rapid.Bool().Draw(t, "random")}
		}
		c.Warmup = []Warmup{w}
	}
	if drawStateful(t, &c, &sig, batch > 0); c.Sequence == nil && c.Generate == nil {
		if rapid.Bool().Draw(t, "features") {
			c.Features = &Features{Timeout: time.Second, OnFailure: FeatureDefault, Inputs: []FeatureInput{{Input: sig.Inputs[0].Name, View: "v", Features: []string{"a", "b"}, MaxAge: time.Hour, OnMissing: FeatureError,
				Entity: rapid.SampledFrom([]Entity{{Input: "the user", Datatype: tensor.Int64}, {Header: "X-User"}}).Draw(t, "entity")}}}
			if d := sig.Inputs[0].Datatype; d == tensor.FP16 || d == tensor.BF16 {
				c.Features = nil
			}
		}
		c.Fallback = rapid.SampledFrom([]Fallback{{}, {Model: "s"}, {Version: "1"}, {Model: "s", Version: "stable"}}).Draw(t, "fallback")
	}
	return c, sig
}

// drawStateful adds states and a step loop.
func drawStateful(t *rapid.T, c *Config, sig *Signature, batch bool) {
	if c.Batching == nil && rapid.Bool().Draw(t, "sequence") {
		c.Sequence = &Sequence{IdleTimeout: time.Duration(rapid.Int64Range(0, 1e6).Draw(t, "idle")) * time.Microsecond}
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Z]{1,4}`), 1, 3, rapid.ID).Draw(t, "states") {
			d := rapid.SampledFrom([]tensor.Datatype{tensor.FP32, tensor.Int64, tensor.Bytes, tensor.FP16, tensor.Bool}).Draw(t, "type")
			dims := tensor.Shape(rapid.SliceOfN(rapid.SampledFrom([]int64{-1, 1, 2}), 0, 3).Draw(t, "dims"))
			shape := slices.Clone(dims)
			if batch {
				shape = append(tensor.Shape{-1}, dims...)
			}
			sig.Inputs = append(sig.Inputs, Port{Name: name, Datatype: d, Shape: slices.Clone(shape)})
			sig.Outputs = append(sig.Outputs, Port{Name: name, Datatype: d, Shape: shape})
			s := State{Input: name, Output: name, Visible: rapid.Bool().Draw(t, "visible")}
			for _, extent := range dims {
				s.InitialDims = append(s.InitialDims, max(extent, rapid.Int64Range(0, 1).Draw(t, "initial")))
			}
			if value := map[tensor.Datatype]string{tensor.FP32: "0.5", tensor.Int64: "-7", tensor.Bytes: `"a\"b"`}[d]; value != "" && rapid.Bool().Draw(t, "values") {
				s.Initial = []string{value}
			}
			c.Sequence.States = append(c.Sequence.States, s)
		}
	}
	if rapid.Bool().Draw(t, "generate") {
		shape := tensor.Shape{-1, 1}
		sig.Inputs = append(sig.Inputs, Port{Name: "Token", Datatype: tensor.Bytes, Shape: slices.Clone(shape)})
		sig.Outputs = append(sig.Outputs, Port{Name: "Next", Datatype: tensor.Bytes, Shape: shape})
		for _, w := range c.Warmup {
			w.Inputs["Token"] = WarmupInput{Datatype: tensor.Bytes, Dims: shape[len(shape)-1:]}
			if !batch {
				w.Inputs["Token"] = WarmupInput{Datatype: tensor.Bytes, Dims: tensor.Shape{1, 1}}
			}
		}
		c.Generate = &Generate{Feedback: []Feedback{{Output: "Next", Input: "Token"}}, MaxSteps: rapid.IntRange(0, 9).Draw(t, "steps")}
		if rapid.Bool().Draw(t, "end") {
			c.Generate.End = &End{Output: "Next", Value: `"\n"`}
		}
	}
}

// A configuration that a client reads and loads back unchanged resolves to the
// same again.
func TestTritonJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, read := drawConfig(t)
		want, sig, err := Resolve(in, read, Defaults{})
		if err != nil {
			t.Fatal(err)
		}
		text := want.TritonJSON(want.Visible(sig))
		if !json.Valid(text) {
			t.Fatalf("not JSON: %s", text)
		}
		parsed, err := ParseTritonJSON(text, "")
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(parsed.Warnings) > 0 {
			t.Fatalf("%s: warns %q", text, parsed.Warnings)
		}
		got, sigAgain, err := Resolve(parsed, read, Defaults{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(want.Parameters) == 0 {
			want.Parameters = nil
		}
		sameNil := cmp.Transformer("sameNil", func(s tensor.Shape) []int64 { return append([]int64{}, s...) })
		if diff := cmp.Diff(want, got, sameNil); diff != "" {
			t.Fatalf("%s: %s", text, diff)
		}
		if diff := cmp.Diff(sig, sigAgain, sameNil); diff != "" {
			t.Fatalf("%s: %s", text, diff)
		}
		if again := got.TritonJSON(got.Visible(sigAgain)); string(again) != string(text) {
			t.Fatalf("%s became %s", text, again)
		}
	})
}
