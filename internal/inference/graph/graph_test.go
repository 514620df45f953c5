package graph_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world has models "add1", "double" and "fail", which take x and give y, rows of one
// FP32; "wide", which takes rows of three; and what happened to calls.
type world struct {
	members map[string]graph.Member
	does    map[string]func(ctx context.Context, v float32) (float32, error)
}

func number(name string, shape ...int64) model.Port {
	return model.Port{Name: name, Datatype: tensor.FP32, Shape: append(tensor.Shape{-1}, shape...)}
}

func newWorld() *world {
	w := &world{members: map[string]graph.Member{}, does: map[string]func(context.Context, float32) (float32, error){}}
	w.model("add1", func(_ context.Context, v float32) (float32, error) { return v + 1, nil })
	w.model("double", func(_ context.Context, v float32) (float32, error) { return 2 * v, nil })
	w.model("fail", func(context.Context, float32) (float32, error) {
		return 0, fault.New(fault.Unavailable, "too much to do").WithCode("overloaded").WithRetryAfter(time.Second)
	})
	w.members["wide"] = graph.Member{Signature: model.Signature{Inputs: []model.Port{number("x", 3)}, Outputs: []model.Port{number("y", 1)}}, Batches: true, MaxRows: 4, Independent: true}
	w.members["texts"] = graph.Member{Signature: model.Signature{Inputs: []model.Port{{Name: "x", Datatype: tensor.Bytes, Shape: tensor.Shape{-1, 1}}}, Outputs: []model.Port{number("y", 1)}}, Batches: true, MaxRows: 4}
	w.members["steps"] = graph.Member{Steps: true}
	w.members["outer"] = graph.Member{Signature: w.members["add1"].Signature, Batches: true, MaxRows: 8, Uses: []string{"add1", "g"}}
	return w
}

func (w *world) model(name string, does func(ctx context.Context, v float32) (float32, error)) {
	w.members[name] = graph.Member{Signature: model.Signature{Inputs: []model.Port{number("x", 1)}, Outputs: []model.Port{number("y", 1)}}, Batches: true, MaxRows: 16, Independent: true}
	w.does[name] = does
}

func (w *world) find(name, _ string) (graph.Member, error) {
	m, ok := w.members[name]
	if !ok {
		return m, fault.New(fault.NotFound, "Request for unknown model: '%s' is not found", name).WithCode("model_not_found")
	}
	return m, nil
}

// Call implements graph.Caller.
func (w *world) Call(ctx context.Context, c *graph.Call) error {
	does, ok := w.does[c.Model]
	if !ok {
		return fault.New(fault.NotFound, "Request for unknown model: '%s' is not found", c.Model).WithCode("model_not_found")
	}
	data, err := c.Alloc(len(c.Inputs[0].Data))
	if err != nil {
		return err
	}
	for at := 0; at < len(data); at += 4 {
		v, err := does(ctx, math.Float32frombits(binary.LittleEndian.Uint32(c.Inputs[0].Data[at:])))
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(data[at:], math.Float32bits(v))
	}
	c.Compute = time.Millisecond
	for range c.Outputs {
		c.Results = append(c.Results, tensor.Tensor{Datatype: tensor.FP32, Shape: c.Inputs[0].Shape, Data: data})
	}
	return nil
}

func (w *world) compile(text string) (*graph.Graph, error) {
	spec, err := model.ParseGraph([]byte(text), "g/1/graph.yaml")
	if err != nil {
		return nil, err
	}
	return graph.Compile("g", &spec, w.find, nil)
}

func (w *world) must(t testing.TB, text string) *graph.Graph {
	t.Helper()
	g, err := w.compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func column(name string, vs ...float32) tensor.Tensor {
	t := tensor.Tensor{Name: name, Datatype: tensor.FP32, Shape: tensor.Shape{int64(len(vs)), 1}}
	for _, v := range vs {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(v))
	}
	return t
}

func floats(data []byte) []float32 {
	vs := []float32{}
	for ; len(data) > 0; data = data[4:] {
		vs = append(vs, math.Float32frombits(binary.LittleEndian.Uint32(data)))
	}
	return vs
}

type headers map[string]string

func (h headers) value(from experiment.Source, name string) string { return h[string(from)+" "+name] }

func (w *world) run(ctx context.Context, g *graph.Graph, h headers, vs ...float32) ([]float32, error) {
	result, err := g.Run(ctx, graph.Request{Inputs: []tensor.Tensor{column("x", vs...)}, Rows: len(vs), Value: h.value}, w)
	if err != nil {
		return nil, err
	}
	defer result.Release()
	return floats(result.Outputs[0].Data), nil
}

const chain = `
inputs: [x]
outputs: [z]
nodes:
  - {name: first, model: add1, outputs: {y: one}}
  - {name: second, model: double@champion, inputs: {x: one}, outputs: {y: z}}
`

const row = `
inputs: [x]
outputs: [y]
nodes:
  - name: big
    transform: threshold
    at: 10
    of: x
    as: big
  - name: which
    switch: {tensor: x}
    gives: [y]
    cases:
      - {below: 0, node: {name: negative, model: double}}
      - {from: 100, node: {name: huge, sequence: [{name: h1, model: double, outputs: {y: d}}, {name: h2, model: add1, inputs: {x: d}}]}}
      - from: 10
        node:
          name: inner
          switch: {tensor: big}
          gives: [y]
          cases: [{in: ["true"], node: {name: yes, transform: rename, of: x, as: y}}]
          default: {name: no, model: fail}
    default: {name: other, model: add1}
`

func TestSequence(t *testing.T) {
	w := newWorld()
	g := w.must(t, chain)
	if got, err := w.run(t.Context(), g, nil, 1, 2, 3); err != nil || !slices.Equal(got, []float32{4, 6, 8}) {
		t.Errorf("%v, %v", got, err)
	}
	in, out := g.Signature.Inputs[0], g.Signature.Outputs[0]
	if in.Name != "x" || !in.Shape.Equal(tensor.Shape{-1, 1}) || out.Name != "z" || out.Datatype != tensor.FP32 || g.MaxRows != 16 || !g.Batches || !g.Independent {
		t.Errorf("%+v", g.Member)
	}
	if !slices.Equal(g.Uses, []string{"add1", "double"}) {
		t.Errorf("%v", g.Uses)
	}
}

// A switch by values decides for each row: what a row is answered does not depend on
// its neighbours, and comes in its place.
func TestRowsAreSwitchedOneByOne(t *testing.T) {
	w := newWorld()
	g := w.must(t, row)
	want := func(v float32) float32 {
		switch {
		case v < 0:
			return 2 * v
		case v >= 100:
			return 2*v + 1
		case v >= 10:
			return v
		}
		return v + 1
	}
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) float32 { return float32(rapid.IntRange(-20, 200).Draw(t, "v")) }), 0, 12).Draw(t, "rows")
		got, err := w.run(context.Background(), g, nil, vs...)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range vs {
			if got[i] != want(v) {
				t.Fatalf("row %d, %v, gave %v", i, v, got[i])
			}
		}
	})
}

func TestSwitchByHeaderAndTenant(t *testing.T) {
	w := newWorld()
	g := w.must(t, `
inputs: [x]
outputs: [y]
nodes:
  - name: tier
    switch: {header: Tier}
    gives: [y]
    cases: [{in: [gold, silver], node: {name: a, model: double}}]
    default:
      name: who
      switch: {tenant: true}
      gives: [y]
      cases: [{in: [acme], node: {name: b, transform: rename, of: x, as: y}}]
      default: {name: c, model: add1}
`)
	for _, c := range []struct {
		h    headers
		want float32
	}{{headers{"header Tier": "silver"}, 10}, {headers{"header Tier": "bronze"}, 6}, {nil, 6}, {headers{"tenant ": "acme"}, 5}} {
		if got, err := w.run(t.Context(), g, c.h, 5); err != nil || got[0] != c.want {
			t.Errorf("%v: %v, %v", c.h, got, err)
		}
	}
}

// Cases are values of the tensor's datatype, however they are written.
func TestCasesAreOfTheTensorsType(t *testing.T) {
	w := newWorld()
	for _, c := range []struct {
		datatype, in string
		row          []byte
	}{
		{"FP32", "0.1", binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.1))},
		{"FP32", "1e2", binary.LittleEndian.AppendUint32(nil, math.Float32bits(100))},
		{"FP32", "0", binary.LittleEndian.AppendUint32(nil, 1<<31)}, // -0
		{"FP64", "0.1", binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.1))},
		{"BOOL", "True", []byte{1}},
		{"UINT8", "01", []byte{1}},
		{"INT64", "-9223372036854775807", binary.LittleEndian.AppendUint64(nil, 1<<63+1)},
		{"UINT64", "18446744073709551615", binary.LittleEndian.AppendUint64(nil, math.MaxUint64)},
		{"BYTES", "01", tensor.AppendBytes(nil, "01")},
	} {
		g := w.must(t, "inputs: [x, {name: k, datatype: "+c.datatype+", dims: [1]}]\noutputs: [y]\nnodes: [{name: s, switch: {tensor: k}, gives: [y], cases: [{in: ["+c.in+
			"], node: {name: a, model: double}}], default: {name: b, model: add1}}]\n")
		k := tensor.Tensor{Name: "k", Datatype: g.Signature.Inputs[1].Datatype, Shape: tensor.Shape{1, 1}, Data: c.row}
		result, err := g.Run(t.Context(), graph.Request{Inputs: []tensor.Tensor{column("x", 5), k}, Rows: 1}, w)
		if err != nil || floats(result.Outputs[0].Data)[0] != 10 {
			t.Errorf("%s %s: %+v, %v", c.datatype, c.in, result, err)
		}
		result.Release()
	}
}

const committee = `
inputs: [x]
outputs: [y]
nodes:
  - name: committee
    ensemble: mean
    of: p
    as: y
    weights: [3, 1]
    members:
      - {name: a, model: add1, outputs: {y: p}}
      - {name: b, sequence: [{name: b1, model: double, outputs: {y: q}}, {name: b2, transform: rename, of: q, as: p}]}
`

func TestEnsemble(t *testing.T) {
	w := newWorld()
	if got, err := w.run(t.Context(), w.must(t, committee), nil, 1, 5); err != nil || !slices.Equal(got, []float32{2, 7}) {
		t.Errorf("%v, %v", got, err)
	}
}

const both = `
inputs: [x]
outputs: [sum]
nodes:
  - name: both
    parallel:
      - {name: a, model: left, outputs: {y: a}}
      - {name: b, model: right, outputs: {y: b}}
  - {name: sum, ensemble: mean, of: v, as: sum, members: [{name: c, transform: rename, of: a, as: v}, {name: d, transform: rename, of: b, as: v}]}
`

// Branches run at the same time: each waits here for the other.
func TestParallel(t *testing.T) {
	w := newWorld()
	met := make(chan float32)
	w.model("left", func(ctx context.Context, v float32) (float32, error) {
		select {
		case met <- v:
			return v, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	})
	w.model("right", func(ctx context.Context, v float32) (float32, error) {
		select {
		case <-met:
			return v + 2, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	})
	if got, err := w.run(t.Context(), w.must(t, both), nil, 1); err != nil || got[0] != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

// The cases of a switch have nothing to do with what is made beside it: the race
// detector looks on.
func TestSwitchBesideOthers(t *testing.T) {
	w := newWorld()
	g := w.must(t, `
inputs: [x]
outputs: [a, b]
nodes:
  - name: both
    parallel:
      - {name: s, switch: {tensor: x}, gives: [a], cases: [{below: 0, node: {name: n, model: double, outputs: {y: a}}}], default: {name: p, model: add1, outputs: {y: a}}}
      - {name: b, model: double, outputs: {y: b}}
`)
	for range 100 {
		if got, err := w.run(t.Context(), g, nil, -1, 1); err != nil || !slices.Equal(got, []float32{-2, 2}) {
			t.Fatalf("%v, %v", got, err)
		}
	}
}

// The first error ends the other branches, and is the one that is told, with its
// kind, code and hint; a deadline reaches every node.
func TestFirstErrorEndsTheOthers(t *testing.T) {
	w := newWorld()
	ended := make(chan error, 1)
	began := make(chan struct{}, 2)
	w.model("left", func(ctx context.Context, v float32) (float32, error) {
		<-began // so that there is something to end
		return w.does["fail"](ctx, v)
	})
	w.model("right", func(ctx context.Context, _ float32) (float32, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return 0, ctx.Err()
	})
	g := w.must(t, both)
	_, err := w.run(t.Context(), g, nil, 1)
	f := fault.Of(err)
	if f.Kind != fault.Unavailable || f.Code != "overloaded" || f.RetryAfter != time.Second || f.Message != "node 'a' of graph 'g': too much to do" {
		t.Errorf("%+v", f)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the other branch ended with %v", err)
	}
	w.does["left"] = w.does["right"]
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	ended = make(chan error, 2)
	if _, err := w.run(ctx, g, nil, 1); !fault.Is(err, fault.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if len(ended) != len(began) {
		t.Error("a branch outlived its request")
	}
}

// A model that has gone since is no fault of the client's, and no unknown graph.
func TestModelsThatVanish(t *testing.T) {
	w := newWorld()
	g := w.must(t, chain)
	delete(w.does, "double")
	_, err := w.run(t.Context(), g, nil, 1)
	if f := fault.Of(err); f.Kind != fault.Unavailable || f.Code != "graph_model_missing" || !strings.Contains(f.Message, "node 'second' of graph 'g': its model is not served any more") {
		t.Errorf("%+v", f)
	}
}

// What a request may hold has a bound.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld()
	w.members["huge"] = w.members["add1"]
	caller := callerFunc(func(_ context.Context, c *graph.Call) error {
		_, err := c.Alloc(graph.MaxBytes + 1)
		return err
	})
	g := w.must(t, "inputs: [x]\noutputs: [y]\nnodes: [{name: a, model: huge}]\n")
	_, err := g.Run(t.Context(), graph.Request{Inputs: []tensor.Tensor{column("x", 1)}, Rows: 1}, caller)
	if f := fault.Of(err); f == nil || f.Code != "graph_too_large" {
		t.Errorf("%v", err)
	}
}

// What counts is the memory that is held, which may be more than was asked for.
func TestRoomCounts(t *testing.T) {
	w := newWorld()
	got := 0
	caller := callerFunc(func(_ context.Context, c *graph.Call) error {
		for ; ; got++ {
			if _, err := c.Alloc(32<<20 + 1); err != nil {
				return err
			}
		}
	})
	_, err := w.must(t, "inputs: [x]\noutputs: [y]\nnodes: [{name: a, model: add1}]\n").Run(t.Context(), graph.Request{Inputs: []tensor.Tensor{column("x", 1)}, Rows: 1}, caller)
	if fault.CodeOf(err) != "graph_too_large" || got != graph.MaxBytes/(64<<20) {
		t.Errorf("%d of 64 MiB, %v", got, err)
	}
}

type callerFunc func(ctx context.Context, c *graph.Call) error

func (f callerFunc) Call(ctx context.Context, c *graph.Call) error { return f(ctx, c) }

// Every graph that cannot work is refused when it is loaded, and says at which node.
func TestRefusals(t *testing.T) {
	const head = "inputs: [x]\noutputs: [y]\nnodes:\n"
	for _, c := range []struct{ why, text, want string }{
		{"unknown model", head + "  - {name: a, model: nobody}", "graph.yaml:4: node 'a': Request for unknown model: 'nobody' is not found"},
		{"itself", head + "  - {name: a, model: g}", "node 'a': graph 'g' uses itself"},
		{"circle", head + "  - {name: a, model: outer}", "node 'a': model 'outer' is a graph that uses graph 'g' itself"},
		{"steps", head + "  - {name: a, model: steps}", "keeps state or answers step by step"},
		{"no tensor", head + "  - {name: a, model: add1, inputs: {x: z}}\n  - {name: b, model: add1}", `node 'a': there is no tensor 'z' when it runs; there are ["x"]`},
		{"too early", head + "  - {name: a, model: add1, inputs: {x: later}}\n  - {name: b, model: add1, outputs: {y: later}}", "no tensor 'later'"},
		{"no input", head + "  - {name: a, model: add1, inputs: {q: x}}", "model 'add1' has no input 'q': it takes 'x'"},
		{"no output", head + "  - {name: a, model: add1, outputs: {q: y}}", "model 'add1' has no output 'q': it gives 'y'"},
		{"twice", head + "  - {name: a, model: add1}\n  - {name: b, model: double}", "node 'b': the tensor 'y' is there already"},
		{"type", head + "  - {name: a, model: add1}\n  - {name: b, model: texts, inputs: {x: y}, outputs: {y: z}}", "node 'b': input 'x' of model 'texts' cannot be 'y': it is FP32, not BYTES"},
		{"shape", head + "  - {name: a, model: add1}\n  - {name: b, model: wide, inputs: {x: y}, outputs: {y: z}}", "it has shape [-1,1], not [-1,3]"},
		{"inputs that differ", head + "  - {name: a, model: add1}\n  - {name: b, model: wide, outputs: {y: z}}", "node 'b': input 'x' of the graph is FP32 [-1,1], but model 'wide' takes FP32 [-1,3]"},
		{"open input", "inputs: [x, w]\noutputs: [y]\nnodes: [{name: a, model: add1}, {name: b, transform: rename, of: w, as: v}]", "input 'w' needs datatype and dims"},
		{"no such output", "inputs: [x]\noutputs: [q]\nnodes: [{name: a, model: add1}]", "no node makes the output 'q'"},
		{"output twice", "inputs: [x]\noutputs: [y, y]\nnodes: [{name: a, model: add1}]", "output 'y' is there twice"},
		{"branch sees branch", head + "  - {name: p, parallel: [{name: a, model: add1}, {name: b, model: double, inputs: {x: y}, outputs: {y: z}}]}", "node 'b': there is no tensor 'y'"},
		{"branches collide", head + "  - {name: p, parallel: [{name: a, model: add1}, {name: b, model: double}]}", "made by another branch"},
		{"case gives less", head + "  - {name: s, switch: {header: H}, gives: [y], cases: [{in: [a], node: {name: a, model: add1, outputs: {y: z}}}], default: {name: b, model: add1}}", "node 'a': as a case of 's' it must make the tensor 'y'"},
		{"case is local", head + "  - {name: s, switch: {header: H}, gives: [z], cases: [{in: [a], node: {name: a, model: add1, outputs: {y: z}}}], default: {name: b, model: add1, outputs: {y: z}}}\n  - {name: c, transform: rename, of: q, as: y}", "no tensor 'q'"},
		{"many values", "inputs: [x]\noutputs: [y]\nnodes: [{name: s, switch: {tensor: x}, gives: [y], cases: [{from: 1, node: {name: a, model: wide}}], default: {name: b, model: wide}}]", "a switch looks at one value"},
		{"no such value", head + "  - {name: s, switch: {tensor: x}, gives: [y], cases: [{in: [1, many], node: {name: a, model: add1}}], default: {name: b, model: add1}}", "node 's': a case is for what 'x' never is: value \"many\" is not one of FP32"},
		{"extents of cases", head + "  - {name: s, switch: {tensor: x}, gives: [y], cases: [{below: 1, node: {name: a, transform: constant, datatype: FP32, dims: [3], values: [1], as: y}}], default: {name: b, model: add1}}", "node 'b': 'y' has shape [-1,1], but cases of 's' before it make [-1,3]"},
		{"members differ", head + "  - {name: e, ensemble: mean, of: p, as: y, members: [{name: a, model: add1, outputs: {y: p}}, {name: b, transform: argmax, of: x, as: p}]}", "node 'b': 'p' is not what the members of 'e' before it make"},
		{"vote of floats", head + "  - {name: e, ensemble: vote, of: p, as: y, members: [{name: a, model: add1, outputs: {y: p}}]}", "a vote is one of classes, got FP32"},
		{"transform", head + "  - {name: a, transform: softmax, axis: 0, of: x, as: z}\n  - {name: b, model: add1}", "node 'a': softmax: axis 0"},
	} {
		if _, err := newWorld().compile(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.why, err, c.want)
		}
	}
}
