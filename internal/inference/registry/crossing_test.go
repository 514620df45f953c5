package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/graph"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// steps is a store whose operations wait for their turn, where the context has one.
type steps struct{ repo.Driver }

type turnKey struct{}

// turn is what one of several at the same time waits for.
type turn struct{ ready, next, done chan struct{} }

func wait(ctx context.Context) {
	if t, ok := ctx.Value(turnKey{}).(*turn); ok {
		t.ready <- struct{}{}
		<-t.next
	}
}

func (s steps) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	wait(ctx)
	return s.Driver.Get(ctx, key)
}

func (s steps) Find(ctx context.Context, of *repo.Schema, q *repo.FindQuery) ([]repo.Record, error) {
	wait(ctx)
	return s.Driver.Find(ctx, of, q)
}

func (s steps) Commit(ctx context.Context, c *repo.Changeset) error {
	wait(ctx)
	return s.Driver.Commit(ctx, c)
}

// interleave runs functions one operation of the store at a time, in an order that is drawn.
func interleave(ctx context.Context, rt *rapid.T, fs ...func(context.Context)) {
	var turns []*turn
	for _, f := range fs {
		t := &turn{make(chan struct{}), make(chan struct{}), make(chan struct{})}
		turns = append(turns, t)
		go func() {
			defer close(t.done)
			f(context.WithValue(ctx, turnKey{}, t))
		}()
	}
	waiting := map[int]bool{}
	for running := len(turns); running > 0; {
		for i, t := range turns {
			if t == nil || waiting[i] {
				continue
			}
			select {
			case <-t.ready:
				waiting[i] = true
			case <-t.done:
				turns[i] = nil
				running--
			}
		}
		var can []int
		for i := range turns {
			if waiting[i] {
				can = append(can, i)
			}
		}
		if len(can) > 0 {
			i := can[rapid.IntRange(0, len(can)-1).Draw(rt, "turn")]
			waiting[i] = false
			turns[i].next <- struct{}{}
		}
	}
}

// behind is the catalog of a node that has not heard yet of what was deleted.
type behind struct{}

func (behind) Find(_, version string) (rollout.Artifact, error) {
	return rollout.Artifact{Version: int64(version[0] - '0'), Digest: "d" + version}, nil
}

// An alias is set, or a release begun, while its version is deleted or archived, their
// operations on the store in any order: one of the two fails, and never does anything name
// what is not there. What was only tried leaves no version behind that cannot be deleted.
func TestNamingCrossesDeleting(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t)
		store := repo.New(steps{memrepo.New(memrepo.Config{OneAggregate: true})}, repo.Config{Now: b.store.Now})
		bus, err := cqrs.NewBus(store, cqrs.Config{})
		if err != nil {
			rt.Fatal(err)
		}
		s, err := New(store, bus, b.bucket, Config{InUse: []InUse{rollout.Uses}})
		if err != nil {
			rt.Fatal(err)
		}
		rollout.Register(bus, behind{})
		aliases := rollout.NewService(bus, behind{})
		aliases.Keeper = s
		ctx := access.With(context.Background(), &access.Principal{Tenant: "acme", Subject: "ann", Permissions: access.SetOf(Read, Write, rollout.Read, rollout.Write)})
		b.must(s.Register(ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
		if err := s.NewTrials(b.trials.try, "r", "me").Round(ctx); err != nil {
			rt.Fatal(err)
		}
		var set, removed error
		archive := rapid.Bool().Draw(rt, "archive")
		interleave(ctx, rt, func(ctx context.Context) {
			_, set = aliases.SetAlias(ctx, rollout.SetAlias{Model: "m", Alias: "live", Version: "1", Expect: rollout.Expectation{Absent: true}})
		}, func(ctx context.Context) {
			if archive {
				_, removed = s.Change(ctx, Note{Model: "m", Number: 1, Expect: anything, Change: func(*Notes) {}, Stage: Archived})
			} else {
				removed = s.Delete(ctx, Delete{Model: "m", Number: 1, Expect: anything})
			}
		})
		if set == nil && removed == nil {
			rt.Fatal("both were done")
		}
		if set != nil && fault.CodeOf(set) != "version_missing" || removed != nil && fault.CodeOf(removed) != "version_in_use" {
			rt.Fatalf("set: %v; removed: %v", set, removed)
		}
		v, err := cqrs.Ask(ctx, bus, Find{Model: "m", Number: 1})
		if there := err == nil && v.Stage == Ready; there != (removed != nil) {
			rt.Fatalf("it is there: %t, %v; it was to go: %v", there, err, removed)
		}
		if _, err := cqrs.Ask(ctx, bus, rollout.FindAlias{Model: "m", Alias: "live"}); (err == nil) != (set == nil) {
			rt.Fatalf("the alias: %v; it was to be set: %v", err, set)
		}
		if set != nil && removed != nil {
			if err := s.Delete(ctx, Delete{Model: "m", Number: 1, Expect: anything}); err != nil {
				rt.Fatal(fmt.Errorf("nobody names it: %w", err))
			}
		}
	})
}

// A graph comes back, from the archive or from what was deleted, while its model is deleted
// or archived, their operations on the store in any order: one of the two fails.
func TestReturningGraphCrossesDeleting(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t)
		store := repo.New(steps{memrepo.New(memrepo.Config{OneAggregate: true})}, repo.Config{Now: b.store.Now})
		bus, err := cqrs.NewBus(store, cqrs.Config{})
		if err != nil {
			rt.Fatal(err)
		}
		served := &served{members: map[string]graph.Member{"m@1": member(1, "x", "y")}} // the node has not heard yet
		s, err := New(store, bus, b.bucket, Config{Graphs: served})
		if err != nil {
			rt.Fatal(err)
		}
		b.must(s.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, onnxtest.MLP(1, 4, 4))}}))
		if err := s.NewTrials(b.trials.try, "r", "me").Round(b.ctx); err != nil {
			rt.Fatal(err)
		}
		b.must(s.Register(b.ctx, b.graph("g", "  - {name: a, model: m@1, outputs: {y: z}}\n")))
		if err := s.NewTrials(b.trials.try, "r", "me").Round(b.ctx); err != nil {
			rt.Fatal(err)
		}
		to := func(ctx context.Context, model string, stage Stage) error {
			_, err := s.Change(ctx, Note{Model: model, Number: 1, Expect: anything, Change: func(*Notes) {}, Stage: stage})
			return err
		}
		remove := func(ctx context.Context, model string, archive bool) error {
			if archive {
				return to(ctx, model, Archived)
			}
			return s.Delete(ctx, Delete{Model: model, Number: 1, Expect: anything})
		}
		archived, archive := rapid.Bool().Draw(rt, "graph archived"), rapid.Bool().Draw(rt, "model archived")
		if err := remove(b.ctx, "g", archived); err != nil {
			rt.Fatal(err)
		}
		var back, removed error
		interleave(b.ctx, rt, func(ctx context.Context) {
			if archived {
				back = to(ctx, "g", Ready)
			} else {
				_, back = s.Restore(ctx, Restore{Model: "g", Number: 1})
			}
		}, func(ctx context.Context) { removed = remove(ctx, "m", archive) })
		if back == nil && removed == nil {
			rt.Fatal("both were done")
		}
		if back != nil && fault.CodeOf(back) != codeMember || removed != nil && fault.CodeOf(removed) != "version_in_use" {
			rt.Fatalf("back: %v; removed: %v", back, removed)
		}
	})
}

// Several begin to name a version at the same time, none of whom was there before: all do.
// Nothing is left of them when they are done.
func TestNamedAtOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t)
		store := repo.New(steps{memrepo.New(memrepo.Config{OneAggregate: true})}, repo.Config{Now: b.store.Now})
		bus, err := cqrs.NewBus(store, cqrs.Config{})
		if err != nil {
			rt.Fatal(err)
		}
		s, err := New(store, bus, b.bucket, Config{})
		if err != nil {
			rt.Fatal(err)
		}
		b.must(s.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
		if err := s.NewTrials(b.trials.try, "r", "me").Round(b.ctx); err != nil {
			rt.Fatal(err)
		}
		var errs [2]error
		name := func(i int) func(context.Context) {
			return func(ctx context.Context) {
				var end func()
				if _, end, errs[i] = s.Keep(ctx, "m", 1); errs[i] == nil {
					end()
				}
			}
		}
		interleave(b.ctx, rt, name(0), name(1))
		if err := errors.Join(errs[:]...); err != nil {
			rt.Fatal(err)
		}
		if n, err := Namings.Get(b.ctx, store.Read(repo.Scope{}), IDOf("m", 1)); !errors.Is(err, repo.ErrNotFound) {
			rt.Fatalf("left: %+v, %v", n, err)
		}
	})
}

// Who dies while naming a version keeps it for a minute.
func TestNamingEnds(t *testing.T) {
	b := newBed(t)
	b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
	if err := b.trials.Round(b.ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Keep(b.ctx, "m", 1); err != nil { // whose end nobody calls
		t.Fatal(err)
	}
	_, end, err := b.Keep(b.ctx, "m", 1, 7)
	if err != nil {
		t.Fatal(err)
	}
	end()
	remove := Delete{Model: "m", Number: 1, Expect: anything}
	if err := b.Delete(b.ctx, remove); fault.CodeOf(err) != "version_in_use" {
		t.Errorf("while it is named: %v", err)
	}
	b.pass(namingTime)
	if err := b.Delete(b.ctx, remove); err != nil {
		t.Errorf("after a minute: %v", err)
	}
	if _, _, err := b.Keep(b.ctx, "m", 1); fault.CodeOf(err) != "version_missing" {
		t.Errorf("what was deleted: %v", err)
	}
	b.taken = []int64{1}
	if _, _, err := b.Keep(b.ctx, "m", 1); err != nil {
		t.Errorf("what the folder has: %v", err)
	}
}

// What the platform does to versions is in the audit log, with who did it.
func TestWhatThePlatformDoesIsAudited(t *testing.T) {
	b := newBed(t)
	seen := map[string]int{}
	b.store.Watch(func(c *repo.Changeset) {
		for _, m := range c.Messages {
			if m.Stream == repo.StreamAudit && m.Actor == "system" {
				for _, action := range []string{"validate", "reject", "purge"} {
					if bytes.Contains(m.Data, []byte(`"model_versions.`+action+`"`)) && bytes.Contains(m.Data, []byte(`"ok"`)) {
						seen[action]++
					}
				}
			}
		}
	})
	b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
	if err := b.trials.Round(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.remove("m", 1)
	b.pass(b.cfg.Retention)
	for range 2 {
		if _, err := b.Sweep(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	b.tried = func(engine.Spec, *probe.Golden) (probe.Report, error) {
		return probe.Report{}, fault.New(fault.Invalid, "it crashed")
	}
	b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
	if err := b.trials.Round(b.ctx); err != nil || b.find("m", 1).Stage != Rejected {
		t.Fatal(err)
	}
	if fmt.Sprint(seen) != "map[purge:1 reject:1 validate:1]" {
		t.Errorf("audited: %v", seen)
	}
}
