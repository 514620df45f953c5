package model

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/inference/tensor"
)

// cell is a recurrent model: a token and a state in, a token and a state out.
func cell() Signature {
	return Signature{
		Inputs: []Port{
			{Name: "token", Datatype: tensor.Int64, Shape: tensor.Shape{-1, 1}},
			{Name: "h", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 2}},
			{Name: "cache", Datatype: tensor.Bytes, Shape: tensor.Shape{-1, -1}},
		},
		Outputs: []Port{
			{Name: "next", Datatype: tensor.Int64, Shape: tensor.Shape{-1, -1}},
			{Name: "h_out", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 2}},
			{Name: "cache_out", Datatype: tensor.Bytes, Shape: tensor.Shape{-1, -1}},
		},
	}
}

func TestStatefulConfig(t *testing.T) {
	cfg, err := ParseYAML([]byte(`
sequence:
  idle_timeout: 5s
  state:
    - {input: h, output: h_out, initial: [0.5]}
    - {input: cache, output: cache_out, initial_dims: [2], initial: [a, "b\n"]}
generate:
  feedback: [{output: next, input: token}]
  max_steps: 7
  end: {output: next, value: -1}
outputs: [{name: h_out}, {name: next}]
warmup: [{name: w, inputs: {token: {dims: [1]}}}]
`), "c")
	if err != nil {
		t.Fatal(err)
	}
	got, sig, err := Resolve(cfg, cell(), Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Sequence{IdleTimeout: 5 * time.Second, States: []State{
		{Input: "h", Output: "h_out", Datatype: tensor.FP32, Dims: tensor.Shape{2}, Visible: true, InitialDims: tensor.Shape{2}, Initial: []string{"0.5"}, First: []byte("\x00\x00\x00\x3f\x00\x00\x00\x3f")},
		{Input: "cache", Output: "cache_out", Datatype: tensor.Bytes, Dims: tensor.Shape{-1}, InitialDims: tensor.Shape{2}, Initial: []string{`"a"`, `"b\n"`}, First: []byte("\x01\x00\x00\x00a\x02\x00\x00\x00b\n")},
	}}
	if diff := cmp.Diff(want, got.Sequence); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&Generate{Feedback: []Feedback{{"next", "token"}}, MaxSteps: 7, End: &End{Output: "next", Value: "-1", Data: []byte("\xff\xff\xff\xff\xff\xff\xff\xff")}}, got.Generate); diff != "" {
		t.Error(diff)
	}
	seen := got.Visible(sig)
	if names(seen.Inputs) != `["token"]` || names(seen.Outputs) != `["next", "h_out"]` || len(sig.Inputs) != 3 || len(got.Inputs) != 1 || len(got.Outputs) != 2 {
		t.Errorf("clients see %s and %s", names(seen.Inputs), names(seen.Outputs))
	}
	if w := got.Warmup[0].Inputs["cache"]; w.Datatype != tensor.Bytes || !w.Dims.Equal(tensor.Shape{2}) {
		t.Errorf("the warm-up gives %+v", w)
	}
	zero, _, err := Resolve(Config{Sequence: &Sequence{States: []State{{Input: "h", Output: "h_out"}}}}, cell(), Defaults{})
	if err != nil || string(zero.Sequence.States[0].First) != "\x00\x00\x00\x00\x00\x00\x00\x00" || zero.Sequence.IdleTimeout != DefaultIdleTimeout {
		t.Errorf("%+v, %v", zero.Sequence, err)
	}
}

func TestStatefulRefusals(t *testing.T) {
	const state, loop = "sequence: {state: [%s]}", "generate: {%s}"
	for _, c := range []struct{ form, text, want string }{
		{state, "", "sequence.state: must list 1 to 256 states, got 0"},
		{state, "{input: h}", "sequence.state[0].output: must be given"},
		{state, "{input: h, output: h_out, dim: [2]}", `unknown key "dim": did you mean "dims"?`},
		{state, "{input: x, output: h_out}", `state: input "x" is not one of the model's: it has ["token", "h", "cache"]`},
		{state, "{input: h, output: x}", `state: output "x" is not one of the model's`},
		{state, "{input: h, output: next}", `state: output "next" is INT64, but input "h" takes FP32`},
		{state, "{input: h, output: h_out, datatype: FP64}", `state "h" has datatype FP64, but the model has FP32`},
		{state, "{input: h, output: h_out, dims: [3]}", `state "h" has dims [3], but input "h" of the model has [2]`},
		{state, "{input: h, output: h_out}, {input: h, output: cache_out}", "can be of one state only"},
		{state, "{input: h, output: h_out, initial: [1, 2, 3]}", `state "h" has 3 initial values: give one for all, or 2`},
		{state, "{input: h, output: h_out, initial: [a]}", `state "h": initial values: `},
		{state, "{input: h, output: h_out, initial: [[1]]}", "must be a value, got a list"},
		{state, "{input: cache, output: cache_out}", `state "cache" needs initial dims without -1 that agree with [-1], got [-1]`},
		{state, "{input: cache, output: cache_out, initial_dims: [2147483647]}", `state "cache" has more than`},
		{"inputs: [{name: h}]\n" + state, "{input: h, output: h_out}", `input "h" is a state, which the server gives`},
		{"batching: {max_queue_delay: 1ms}\n" + state, "{input: h, output: h_out}", "has no settings beside a sequence"},
		{loop, "", "every step would be the same"},
		{loop, "feedback: [{output: h_out, input: token}]", `feedback: output "h_out" is FP32, but input "token" takes INT64`},
		{loop, "feedback: [{output: next, input: token}, {output: next, input: token}]", `feedback: input "token" is fed twice`},
		{loop, "max_steps: 0", "generate.max_steps: must be an integer of 1 to"},
		{loop, "feedback: [{output: next, input: token}], end: {output: next}", "generate.end.value: must be given"},
		{loop, "feedback: [{output: next, input: token}], end: {output: x, value: 1}", `generate.end: output "x" is not one of the model's`},
		{loop, "feedback: [{output: next, input: token}], end: {output: next, value: 1.5}", `generate.end: output "next" cannot have the value 1.5`},
		{"sequence: {state: [{input: h, output: h_out}]}\n" + loop, "feedback: [{output: h_out, input: h}]", `feedback: input "h" is a state already`},
	} {
		cfg, err := ParseYAML(fmt.Appendf(nil, c.form, c.text), "c")
		if err == nil {
			_, _, err = Resolve(cfg, cell(), Defaults{})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.text, err, c.want)
		}
	}
	only := Signature{Inputs: cell().Inputs[1:2], Outputs: cell().Outputs[:2]}
	if _, _, err := Resolve(Config{Sequence: &Sequence{States: []State{{Input: "h", Output: "h_out"}}}}, only, Defaults{}); err == nil || !strings.Contains(err.Error(), "clients need one of each") {
		t.Error(err)
	}
}
