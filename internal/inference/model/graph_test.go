package model_test

import (
	"strings"
	"testing"

	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// What is not a graph is refused with the place and what was expected.
func TestGraphFilesAreStrict(t *testing.T) {
	const head = "outputs: [y]\nnodes:\n"
	for text, want := range map[string]string{
		"":                                 "needs nodes and outputs",
		"outputs: [y]":                     "needs nodes and outputs",
		head + "  - {model: a}":            "nodes[0].name: must be 1 to 64",
		head + "  - {name: a b, model: a}": "must be 1 to 64",
		head + "  - {name: a}":             "must have one of model, sequence",
		head + "  - {name: a, model: a, transform: rename}":                                                   "is both model and transform",
		head + "  - {name: a, modl: a}":                                                                       "must have one of model",
		head + "  - {name: a, model: a, inptus: {}}":                                                          `did you mean "inputs"?`,
		head + "  - {name: a, model: ../b}":                                                                   "must not contain slashes",
		head + "  - {name: a, model: b}\n  - {name: a, model: b}":                                             "graph.yaml:4: nodes[1].name: node \"a\" is there twice",
		head + "  - {name: a, parallel: []}":                                                                  "needs at least one node",
		head + "  - {name: a, transform: sort, of: x, as: y}":                                                 "must be one of rename, cast",
		head + "  - {name: a, transform: cast, of: x, as: y}":                                                 "nodes[0].datatype: must be given",
		head + "  - {name: a, transform: slice, from: 2, to: 2, of: x, as: y}":                                "must be above from",
		head + "  - {name: a, transform: threshold, of: x, as: y}":                                            "nodes[0].at: must be given",
		head + "  - {name: a, transform: threshold, at: .inf, of: x, as: y}":                                  "must be a number",
		head + "  - {name: a, transform: softmax, at: 1, of: x, as: y}":                                       `unknown key "at"`,
		head + "  - {name: a, ensemble: mean, of: x, as: y, weights: [1, 2], members: [{name: b, model: b}]}": "as many as the members",
		head + "  - {name: a, ensemble: mean, of: x, as: y, weights: [0], members: [{name: b, model: b}]}":    "a number above 0",
		head + "  - {name: a, ensemble: median, of: x, as: y, members: [{name: b, model: b}]}":                "must be one of mean, vote",
		head + "  - {name: a, switch: {header: A, tensor: b}, gives: [y], cases: [{in: [a], node: {name: b, model: b}}], default: {name: c, model: c}}": "must look at one of",
		head + "  - {name: a, switch: {header: A}, gives: [y], cases: [{from: 1, node: {name: b, model: b}}], default: {name: c, model: c}}":            "only a tensor has numbers",
		head + "  - {name: a, switch: {header: A}, gives: [y], cases: [{in: [a], node: {name: b, model: b}}]}":                                          "needs cases, a default",
		head + "  - {name: a, switch: {tensor: A}, gives: [y], cases: [{in: [a], below: 1, node: {name: b, model: b}}], default: {name: c, model: c}}":  "for values in a list, or for numbers",
		"inputs: [x, x]\n" + head + "  - {name: a, model: a}":                                                                                           "must be a name of its own",
		head + strings.Repeat("  - {name: a, model: a}\n", 65):                                                                                          "is there twice",
	} {
		if _, err := model.ParseGraph([]byte(text), "graph.yaml"); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	many := head
	for i := range 65 {
		many += "  - {name: n" + strings.Repeat("x", i%50) + string(rune('a'+i/50)) + ", model: a}\n"
	}
	if _, err := model.ParseGraph([]byte(many), "graph.yaml"); err == nil || !strings.Contains(err.Error(), "at most 64 nodes") {
		t.Errorf("65 nodes: %v", err)
	}
}

// Any text is a graph or an error.
func FuzzParseGraph(f *testing.F) {
	f.Add([]byte("inputs: [x]\noutputs: [y]\nnodes:\n  - {name: a, model: iris@stable, inputs: {input: x}, outputs: {p: y}}\n"))
	f.Add([]byte("outputs: y\nnodes: [{name: a, switch: {tensor: t}, gives: y, cases: [{below: 3, node: {name: b, transform: slice, axis: -1, of: [a], as: y}}], default: {name: c, parallel: [{name: d, model: m}]}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := model.ParseGraph(data, "graph.yaml")
		if err == nil && (len(g.Nodes) == 0 || len(g.Nodes) > model.MaxNodes) {
			t.Errorf("%+v", g)
		}
	})
}

func TestResolveGraph(t *testing.T) {
	port := model.Port{Name: "x", Datatype: 12, Shape: []int64{-1, 3}}
	sig := model.Signature{Inputs: []model.Port{port}, Outputs: []model.Port{{Name: "y", Datatype: 12, Shape: []int64{-1, 3}}}}
	size := func(n int) *int { return &n }
	for _, c := range []struct {
		cfg     model.Config
		batches bool
		want    string
	}{
		{model.Config{MaxBatchSize: size(9)}, true, "must be 1 to 8"},
		{model.Config{MaxBatchSize: size(0)}, true, "must be 1 to 8"},
		{model.Config{MaxBatchSize: size(1)}, false, "needs models that batch"},
		{model.Config{Generate: &model.Generate{}}, true, "neither keeps state nor generates"},
		{model.Config{Outputs: []model.PortConfig{{Name: "z"}}}, true, `output "z" is not one of the model's`},
	} {
		rows := 8
		if !c.batches {
			rows = 0
		}
		if _, _, err := model.ResolveGraph(c.cfg, sig, c.batches, rows); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
	cfg, got, err := model.ResolveGraph(model.Config{SLO: 1, NoBatching: true, Outputs: []model.PortConfig{{Name: "y", Labels: []string{"a"}}}}, sig, true, 8)
	if err != nil || *cfg.MaxBatchSize != 8 || cfg.Platform != model.PlatformGraph || len(cfg.Warnings) != 2 || got.Outputs[0].Labels[0] != "a" {
		t.Errorf("%+v, %+v, %v", cfg, got, err)
	}
}
