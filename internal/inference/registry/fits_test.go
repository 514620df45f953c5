package registry

import (
	"strings"
	"testing"

	"sluice/internal/inference/graph"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
)

// An alias that a graph uses leads to no version of other tensors, and who points it there is
// told which graph and tensor; graphs that are archived, and other aliases, hold nothing.
func TestAliasesFitGraphs(t *testing.T) {
	b, s := graphBed(t)
	b.must(b.Register(b.ctx, b.graph("g", chain))) // m@1, and m@best, which is version 2
	if err := b.trials.Round(b.ctx); err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*graph.Member)) graph.Member {
		m := member(3, "x", "y")
		change(&m)
		return m
	}
	for name, c := range map[string]struct {
		to   graph.Member
		says string
	}{
		"the same":      {member(3, "x", "y"), ""},
		"another input": {member(3, "v", "y"), "for the input 'x' of FP32 and shape [-1,4], which is missing there"},
		"another type":  {changed(func(m *graph.Member) { m.Signature.Outputs[0].Datatype = tensor.FP64 }), "for the output 'y' of FP32 and shape [-1,4], which is of FP64 and shape [-1,4] there"},
		"another shape": {changed(func(m *graph.Member) { m.Signature.Inputs[0].Shape = tensor.Shape{-1, 5} }), "which is of FP32 and shape [-1,5] there"},
		"one more": {changed(func(m *graph.Member) {
			more := m.Signature.Inputs[0]
			more.Name = "also"
			m.Signature.Inputs = append(m.Signature.Inputs, more)
		}), "no input 'also', which is there"},
	} {
		s.members["m@3"] = c.to
		err := b.Fits(b.ctx, "m", "best", 3)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says != "" && (fault.CodeOf(err) != "alias_breaks_graph" || !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `version 1 of the graph "g" uses m@best`)):
			t.Errorf("%s: %v", name, err)
		}
	}
	s.members["m@3"] = member(3, "v", "w")
	for _, alias := range []string{"other", "champion"} {
		if err := b.Fits(b.ctx, "m", alias, 3); err != nil {
			t.Errorf("%q, which no graph uses: %v", alias, err)
		}
	}
	s.members["m@best"] = s.members["m@3"] // it was moved before this was refused
	if err := b.Fits(b.ctx, "m", "best", 2); err != nil {
		t.Errorf("back to what the graph was made of: %v", err)
	}
	delete(s.members, "m@2")
	delete(s.members, "m@best")
	if err := b.Fits(b.ctx, "m", "best", 3); err != nil {
		t.Errorf("a graph that is broken anyway: %v", err)
	}
	s.members["m@2"] = member(2, "x", "y")
	if _, err := cqrs.Send(b.ctx, b.bus, Note{Model: "g", Number: 1, Expect: anything, Change: func(*Notes) {}, Stage: Archived}); err != nil {
		t.Fatal(err)
	}
	if err := b.Fits(b.ctx, "m", "best", 3); err != nil {
		t.Errorf("an archived graph: %v", err)
	}
}

// What names no version is served by the champion, where there is one.
func TestChampionsFitGraphs(t *testing.T) {
	b, s := graphBed(t)
	b.must(b.Register(b.ctx, b.graph("g", "  - {name: a, model: m, outputs: {y: z}}\n")))
	s.members["m@2"] = member(2, "v", "y")
	if err := b.Fits(b.ctx, "m", "champion", 2); fault.CodeOf(err) != "alias_breaks_graph" {
		t.Error(err)
	}
	if err := b.Fits(b.ctx, "m", "best", 2); err != nil {
		t.Error(err)
	}
}
