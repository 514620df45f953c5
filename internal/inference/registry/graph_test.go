package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
)

// served are the models of a server, by name@version, and what their trial says.
type served struct {
	members map[string]graph.Member
	tried   error
	golden  *probe.Golden
}

func (s *served) Member(name, version string) (graph.Member, error) {
	m, ok := s.members[name+"@"+version]
	if !ok {
		return m, fault.New(fault.NotFound, "Request for unknown model: '%s' is not found", name).WithCode("model_not_found")
	}
	return m, nil
}

func (s *served) TryGraph(_ context.Context, _ string, _ int64, _ []byte, _ model.Config, g *probe.Golden) (probe.Report, error) {
	s.golden = g
	return probe.Report{Reason: "tried"}, s.tried
}

func member(number int64, takes, gives string) graph.Member {
	port := func(name string) []model.Port {
		return []model.Port{{Name: name, Datatype: tensor.FP32, Shape: tensor.Shape{-1, 4}}}
	}
	return graph.Member{Signature: model.Signature{Inputs: port(takes), Outputs: port(gives)}, Batches: true, MaxRows: 8, Independent: true, Number: number, SHA256: strings.Repeat(fmt.Sprint(number%10), 64)}
}

func graphBed(t *testing.T) (*bed, *served) {
	t.Helper()
	b, s := newBed(t), &served{members: map[string]graph.Member{}}
	b.cfg.Graphs = s
	for seed := range uint64(3) {
		b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, onnxtest.MLP(seed, 4, 4))}}))
	}
	if err := b.trials.Round(b.ctx); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1", "2", "3"} {
		s.members["m@"+version] = member(int64(version[0]-'0'), "x", "y")
	}
	s.members["m@"] = member(3, "x", "y")
	s.members["m@best"] = member(2, "x", "y")
	return b, s
}

func (b *bed) graph(model, nodes string) Register {
	return Register{Model: model, Sources: []Source{b.source(GraphFile, []byte("inputs: [x]\noutputs: [z]\nnodes:\n"+nodes))}}
}

const chain = "  - {name: a, model: m@1, outputs: {y: w}}\n  - {name: b, model: m@best, inputs: {x: w}, outputs: {y: z}}\n"

// A graph is a version with its models in its lineage, and takes them from nobody: who would
// delete or archive one is told which graph it is for.
func TestGraphVersions(t *testing.T) {
	b, s := graphBed(t)
	v := b.must(b.Register(b.ctx, b.graph("g", chain)))
	if !v.Graph() || v.SHA256 != v.Main().SHA256 || len(v.Inputs) != 1 || v.Outputs[0].Name != "z" || v.Outputs[0].Shape.String() != "[-1,4]" {
		t.Errorf("%+v", v)
	}
	want := []Member{{"m", "1", 1, strings.Repeat("1", 64)}, {"m", "best", 2, strings.Repeat("2", 64)}}
	if fmt.Sprint(v.Members) != fmt.Sprint(want) {
		t.Errorf("made of %+v", v.Members)
	}
	if err := b.trials.Round(b.ctx); err != nil || b.find("g", 1).Stage != Ready || b.find("g", 1).Trial.Invariance != "tried" {
		t.Fatalf("%v %+v", err, b.find("g", 1))
	}
	to := func(model string, number int64, stage Stage) error {
		_, err := cqrs.Send(b.ctx, b.bus, Note{Model: model, Number: number, Expect: anything, Change: func(*Notes) {}, Stage: stage})
		return err
	}
	remove := func(number int64) error {
		return b.Delete(b.ctx, Delete{Model: "m", Number: number, Expect: anything})
	}
	for _, err := range []error{remove(1), to("m", 1, Archived)} {
		if fault.CodeOf(err) != "version_in_use" || !strings.Contains(err.Error(), `version 1 of the graph "g" is made of it`) {
			t.Errorf("a model that is needed: %v", err)
		}
	}
	if err := remove(2); err != nil { // the alias that leads to it would keep it
		t.Errorf("one that no graph names by its number: %v", err)
	}
	if err := errors.Join(to("g", 1, Archived), remove(1)); err != nil {
		t.Errorf("once the graph is archived: %v", err)
	}
	delete(s.members, "m@1")
	if err := to("g", 1, Ready); fault.CodeOf(err) != codeMember || !fault.Is(err, fault.Conflict) || b.find("g", 1).Stage != Archived {
		t.Errorf("ready without its model: %v", err)
	}
	if _, err := b.Change(b.ctx, Note{Model: "g", Number: 1, Expect: anything, Change: func(*Notes) {}, Stage: Ready}); fault.CodeOf(err) != codeMember {
		t.Errorf("ready without its model: %v", err)
	}
}

// A graph that names no version needs that one is left.
func TestGraphOfWhateverVersion(t *testing.T) {
	b, s := graphBed(t)
	b.must(b.Register(b.ctx, b.graph("g", "  - {name: a, model: m, outputs: {y: z}}\n")))
	for number := int64(3); number > 0; number-- {
		s.members["m@"] = member(number, "x", "y")
		err := b.Delete(b.ctx, Delete{Model: "m", Number: number, Expect: anything})
		if last := number == 1; last != (fault.CodeOf(err) == "version_in_use") {
			t.Errorf("version %d: %v", number, err)
		}
	}
}

// What cannot work is refused as a whole: nothing of it is kept.
func TestGraphsThatAreRefused(t *testing.T) {
	b, s := graphBed(t)
	loop := member(1, "x", "y")
	loop.Uses = []string{"m", "g"}
	s.members["other@"] = loop
	s.members["ints@"] = member(1, "n", "y")
	s.members["ints@"].Signature.Inputs[0].Datatype = tensor.Int64
	kept := len(b.kept())
	for says, nodes := range map[string]string{
		"'nobody' is not found":                 "  - {name: a, model: nobody, outputs: {y: z}}\n",
		"graph 'g' uses itself":                 "  - {name: a, model: g, outputs: {y: z}}\n",
		"is a graph that uses graph 'g'":        "  - {name: a, model: other, outputs: {y: z}}\n",
		"there is no tensor 'nothing'":          "  - {name: a, model: m, outputs: {y: w}}\n  - {name: b, model: m, inputs: {x: nothing}, outputs: {y: z}}\n",
		"it is FP32, not INT64":                 "  - {name: a, model: m@1, outputs: {y: w}}\n  - {name: b, model: ints, inputs: {n: w}, outputs: {y: z}}\n",
		"no node makes the output 'z'":          "  - {name: a, model: m}\n",
		"must have one of model":                "  - {name: a, modl: m}\n",
		"graph.yaml:4: node 'a': model 'm' has": "  - {name: a, model: m, inputs: {q: x}, outputs: {y: z}}\n",
	} {
		_, _, err := b.Register(b.ctx, b.graph("g", nodes))
		if !fault.Is(err, fault.Unprocessable) || fault.CodeOf(err) != "graph_refused" || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	good := b.graph("g", chain)
	for says, more := range map[string]map[string][]byte{
		"a model or a graph of others": {ModelFile: mlp},
		"max_batch_size must be":       {ConfigYAML: []byte("max_batch_size: 9\n")},
		"neither keeps state":          {ConfigYAML: []byte("generate: {}\n")},
		"is called graph.yaml":         {ConfigYAML: []byte("filename: model.onnx\n")},
	} {
		r := good
		r.Sources = append(b.sources(more), good.Sources...)
		if _, _, err := b.Register(b.ctx, r); !fault.Is(err, fault.Unprocessable) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	big := b.graph("g", strings.Repeat("#", maxGraph))
	if _, _, err := b.Register(b.ctx, big); fault.CodeOf(err) != "version_file_too_large" {
		t.Errorf("a graph of a megabyte: %v", err)
	}
	b.cfg.Graphs = nil
	if _, _, err := b.Register(b.ctx, good); fault.CodeOf(err) != "graph_refused" {
		t.Errorf("where no models are served: %v", err)
	}
	if b.all() != 3 || len(b.kept()) != kept {
		t.Errorf("what was refused has left %d versions and %v", b.all(), b.kept())
	}
}

// A graph's trial runs it with its models: its own faults reject it at once, a model that is
// missing after some tries, and one that cannot answer now never.
func TestTrialsOfGraphs(t *testing.T) {
	for _, c := range []struct {
		err    error
		rounds int
		stage  Stage
		code   string
	}{
		{fault.New(fault.Invalid, "another answer").WithCode(probe.CodeGolden), 1, Rejected, probe.CodeGolden},
		{fault.New(fault.NotFound, "no such model").WithCode("model_not_found"), maxTrials, Rejected, codeMember},
		{fault.New(fault.Unavailable, "overloaded").WithCode("overloaded"), 2 * maxTrials, Registered, ""},
		{nil, 1, Ready, ""},
	} {
		b, s := graphBed(t)
		const in, out = `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`, `{"outputs":[{"name":"z","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`
		r := b.graph("g", chain)
		r.Sources = append(r.Sources, b.sources(map[string][]byte{GoldenInputs: []byte(in), GoldenOutputs: []byte(out)})...)
		b.must(b.Register(b.ctx, r))
		s.tried = c.err
		for range c.rounds {
			if v := b.find("g", 1); v.Stage != Registered {
				t.Fatalf("%v: %+v", c.err, v)
			}
			_ = b.trials.Round(b.ctx)
			b.pass(trialAgain)
		}
		v := b.find("g", 1)
		if v.Stage != c.stage || s.golden == nil || c.code != "" && v.Problem.Code != c.code || c.stage == Ready && !v.Trial.Golden {
			t.Errorf("%v: %+v", c.err, v)
		}
	}
}

// A graph that was deleted comes back where its models are, and only there.
func TestGraphsRestored(t *testing.T) {
	b, s := graphBed(t)
	b.must(b.Register(b.ctx, b.graph("g", chain)))
	b.remove("g", 1)
	served := s.members["m@best"]
	delete(s.members, "m@best")
	if _, err := b.Restore(b.ctx, Restore{Model: "g", Number: 1}); fault.CodeOf(err) != codeMember {
		t.Errorf("without a model that an alias led to: %v", err)
	}
	if _, err := cqrs.Send(b.ctx, b.bus, Restore{Model: "g", Number: 1}); fault.CodeOf(err) != codeMember {
		t.Errorf("the command: %v", err)
	}
	s.members["m@best"] = served
	if v, err := b.Restore(b.ctx, Restore{Model: "g", Number: 1}); err != nil || v.Deleted() {
		t.Errorf("with its models: %v", err)
	}
}

// unhurried is a bucket whose copies may take their time.
type unhurried struct {
	Bucket
	t testing.TB
}

func (u unhurried) Copy(ctx context.Context, from, to, sha256 string) (blob.Info, error) {
	if at, ok := ctx.Deadline(); ok {
		u.t.Errorf("the files have to be copied in %v", time.Until(at))
	}
	return u.Bucket.Copy(ctx, from, to, sha256)
}

// Files have as long to be copied as the client waits, also those of a graph: its models
// stay only while it is committed.
func TestRegisterCopiesWithoutHurry(t *testing.T) {
	b, _ := graphBed(t)
	b.Service.bucket = unhurried{b.Service.bucket, t}
	b.must(b.Register(b.ctx, Register{Model: "n", Sources: []Source{b.source(ModelFile, mlp)}}))
	b.must(b.Register(b.ctx, b.graph("g", chain)))
}
