package registry

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
)

func (b *bed) remove(model string, number int64) {
	b.t.Helper()
	if _, err := cqrs.Send(b.ctx, b.bus, Delete{Model: model, Number: number, Expect: anything}); err != nil {
		b.t.Fatal(err)
	}
}

// Files that are registered again while their version is deleted bring it back as
// the registration wants it: held back, with its card. What it leaves out stays.
func TestRestoredByRegistration(t *testing.T) {
	b := newBed(t)
	r := Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}, Notes: Notes{Card: "old", Labels: map[string]string{"team": "a"}}, Lineage: Lineage{Code: "repo@1"}}
	b.must(b.Register(b.ctx, r))
	if err := b.trials.Round(b.ctx); err != nil {
		t.Fatal(err)
	}
	if v := b.find("m", 1); v.Stage != Ready {
		t.Fatalf("%+v", v)
	}
	b.remove("m", 1)
	r.Hold, r.Notes, r.Lineage = true, Notes{Card: "new", Metrics: map[string]float64{"f1": 1}}, Lineage{}
	v, known, err := b.Register(b.ctx, r)
	if err != nil || known || v.Stage != Validated || !v.Hold || v.Card != "new" || v.Metrics["f1"] != 1 || !maps.Equal(v.Labels, map[string]string{"team": "a"}) || v.Lineage.Code != "repo@1" {
		t.Errorf("%+v %t %v", v, known, err)
	}
	if served, err := Served(b.ctx, b.store); err != nil || len(served) != 0 {
		t.Errorf("what is held is served: %v %v", served, err)
	}
	if err := b.trials.Round(b.ctx); err != nil || b.find("m", 1).Stage != Validated {
		t.Errorf("after another round: %+v, %v", b.find("m", 1), err)
	}

	other := Register{Model: "m", Sources: []Source{b.source(ModelFile, onnxtest.MLP(2, 4, 3))}}
	b.must(b.Register(b.ctx, other))
	b.remove("m", 2)
	other.Hold = true
	b.must(b.Register(b.ctx, other)) // before its trial
	if err := b.trials.Round(b.ctx); err != nil || b.find("m", 2).Stage != Validated {
		t.Errorf("held before its trial: %+v, %v", b.find("m", 2), err)
	}
}

// What was deleted, restored and deleted again since the sweep has read it is kept
// for its whole time.
func TestPurgeLooksAgain(t *testing.T) {
	b := newBed(t)
	b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
	b.remove("m", 1)
	read, err := cqrs.Ask(b.ctx, b.bus, gone{model: "m", number: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cqrs.Send(b.ctx, b.bus, Restore{Model: "m", Number: 1}); err != nil {
		t.Fatal(err)
	}
	b.pass(b.cfg.Retention + time.Hour)
	b.remove("m", 1)
	if err := b.purge(b.ctx, read); err != nil || b.all() != 1 || len(b.kept()) != 1 {
		t.Errorf("purged by an old look: %d versions, objects %v, %v", b.all(), b.kept(), err)
	}
	b.pass(b.cfg.Retention)
	if n, err := b.Sweep(b.ctx); n != 1 || err != nil || b.all() != 0 || len(b.kept()) != 0 {
		t.Errorf("swept: %d %v", n, err)
	}
}

// What may be the machine's fault is believed once it has come maxTrials times; then
// the version says why.
func TestDoubtfulTrials(t *testing.T) {
	for code, fail := range map[string]func(b *bed){
		probe.CodeKilled: func(b *bed) {
			b.tried = func(engine.Spec, *probe.Golden) (probe.Report, error) {
				return probe.Report{}, fault.New(fault.Invalid, "killed: out of memory").WithCode(probe.CodeKilled)
			}
		},
		probe.CodeTimeout: func(b *bed) {
			b.tried = func(engine.Spec, *probe.Golden) (probe.Report, error) {
				return probe.Report{}, fault.New(fault.Invalid, "it did not finish").WithCode(probe.CodeTimeout)
			}
		},
		codeLost: func(b *bed) {
			for _, key := range b.kept() {
				if err := b.bucket.Delete(b.ctx, key); err != nil {
					b.t.Fatal(err)
				}
			}
		},
	} {
		b := newBed(t)
		b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
		fail(b)
		for i := range maxTrials {
			if got := b.find("m", 1); got.Stage != Registered {
				t.Fatalf("%s: after %d trials: %+v", code, i, got)
			}
			if err := b.trials.Round(b.ctx); (err == nil) != (i == maxTrials-1) {
				t.Errorf("%s: trial %d: %v", code, i+1, err)
			}
			b.pass(trialAgain)
		}
		if got := b.find("m", 1); got.Stage != Rejected || got.Problem.Code != code || got.Problem.Message == "" {
			t.Errorf("%s: %+v", code, got)
		}
	}
}

// A trial takes what it reads from the memory of the node, and gives it back.
func TestTrialsAccountForMemory(t *testing.T) {
	b := newBed(t)
	b.cfg.Memory = budget.New(10, "memory")
	b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
	others := b.cfg.Memory.Account()
	if err := others.Acquire(5); err != nil {
		t.Fatal(err)
	}
	if err := b.trials.Round(b.ctx); fault.CodeOf(err) != budget.Code || b.find("m", 1).Stage != Registered {
		t.Errorf("without memory: %v", err)
	}
	others.Release()
	b.pass(trialAgain)
	b.tried = func(engine.Spec, *probe.Golden) (probe.Report, error) {
		if held := b.cfg.Memory.Held(); held != int64(len(mlp)) {
			t.Errorf("a trial holds %d bytes, want %d", held, len(mlp))
		}
		return probe.Report{Invariant: true}, nil
	}
	if err := b.trials.Round(b.ctx); err != nil || b.find("m", 1).Stage != Ready || b.cfg.Memory.Held() != 0 {
		t.Errorf("%v, %+v, %d bytes held", err, b.find("m", 1), b.cfg.Memory.Held())
	}
}

// Names that a path would take apart, lineage without bounds and golden runs with
// something behind them are refused, with a message that says what is wrong.
func TestRefusesOddNamesLineageAndGolden(t *testing.T) {
	b := newBed(t)
	src := []Source{b.source(ModelFile, mlp)}
	try := func(r Register, code, says string) {
		t.Helper()
		if r.Sources == nil {
			r.Sources = src
		}
		if _, _, err := b.Register(context.WithoutCancel(b.ctx), r); fault.CodeOf(err) != code || !fault.Is(err, fault.Unprocessable) || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80q %.80v: %v, want %s", r.Model, r.Lineage, err, code)
		}
	}
	for _, name := range []string{"%2e%2e%2fz", "v1:3", "x@y", "a%20b"} {
		try(Register{Model: name}, "model_name_invalid", "must not contain any of / : @ %")
	}
	for pointer, l := range map[string]Lineage{
		"/lineage/data/1": {Data: []string{"fine", strings.Repeat("x", 300<<10)}}, "/lineage/data/0": {Data: []string{"a\x00b"}}, "/lineage/data": {Data: make([]string, MaxData+1)},
		"/lineage/code": {Code: "a\x1b[31m"}, "/lineage/author": {Author: strings.Repeat("x", 256)}, "/lineage/parent": {Parent: -1},
	} {
		_, _, err := b.Register(b.ctx, Register{Model: "m", Sources: src, Lineage: l})
		if f := fault.Of(err); f.Code != "version_notes_invalid" || len(f.Details) != 1 || f.Details[0].Pointer != pointer {
			t.Errorf("%s: %v %+v", pointer, err, f.Details)
		}
	}
	if _, _, err := b.Register(b.ctx, Register{Model: "m", Sources: src, Lineage: Lineage{Parent: 7}}); fault.CodeOf(err) != "version_notes_invalid" || !strings.Contains(err.Error(), `model "m" has no version 7 to be the parent`) {
		t.Errorf("a parent that never was: %v", err)
	}
	const tensor = `[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}`
	for _, behind := range []string{"}", "]", ` {"outputs":[]}`, "x", "\x00"} {
		for _, files := range []map[string][]byte{
			{ModelFile: mlp, GoldenInputs: []byte(`{"inputs":` + tensor + behind), GoldenOutputs: []byte(`{"outputs":` + tensor)},
			{ModelFile: mlp, GoldenInputs: []byte(`{"inputs":` + tensor + "\n"), GoldenOutputs: []byte(`{"outputs":` + tensor + behind)},
		} {
			try(Register{Model: "m", Sources: b.sources(files)}, "golden_invalid", "behind its JSON")
		}
	}
	if b.all() > 0 || len(b.kept()) > 0 {
		t.Errorf("what was refused has left %d versions and %v", b.all(), b.kept())
	}
}
