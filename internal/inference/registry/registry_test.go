package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"))
}

// bed is a registry whose clock stands, on a store that commits one aggregate at a
// time, and with trials that the test decides.
type bed struct {
	*Service
	t      testing.TB
	ctx    context.Context
	bucket *memblob.Bucket
	trials *Trials
	tried  func(engine.Spec, *probe.Golden) (probe.Report, error)
	inUse  string
	taken  []int64

	mu  sync.Mutex
	now time.Time
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), tried: func(engine.Spec, *probe.Golden) (probe.Report, error) {
		return probe.Report{Invariant: true, Reason: "tried"}, nil
	}}
	clock := func() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.now }
	b.bucket = memblob.New(memblob.Config{Now: clock})
	store := repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: clock})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b.Service, err = New(store, bus, b.bucket, Config{
		InUse: []InUse{func(context.Context, repo.Reading, string, int64) (string, error) { return b.inUse, nil }},
		Taken: func(context.Context, string) (func(int64) bool, error) {
			return func(n int64) bool { return slices.Contains(b.taken, n) }, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.trials = b.NewTrials(func(_ context.Context, s engine.Spec, g *probe.Golden) (probe.Report, error) { return b.tried(s, g) }, "runtime", "me")
	b.ctx = access.With(context.Background(), &access.Principal{Tenant: "acme", Subject: "ann", Permissions: access.SetOf(Read, Write)})
	return b
}

func (b *bed) pass(d time.Duration) { b.mu.Lock(); b.now = b.now.Add(d); b.mu.Unlock() }

// source puts an upload's object.
func (b *bed) source(name string, content []byte) Source {
	b.t.Helper()
	sum := sha256.Sum256(content)
	s := Source{Name: name, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(content)), Object: "acme/uploads/" + repo.RandomName()}
	if _, err := b.bucket.Put(b.ctx, s.Object, bytes.NewReader(content), blob.PutOptions{}); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bed) sources(files map[string][]byte) (out []Source) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		out = append(out, b.source(name, files[name]))
	}
	return out
}

func (b *bed) must(v *Version, _ bool, err error) *Version {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *bed) find(model string, n int64) *Version {
	b.t.Helper()
	return b.must(first(cqrs.Ask(b.ctx, b.bus, Find{Model: model, Number: n})))
}

func first(v *Version, err error) (*Version, bool, error) { return v, false, err }

// kept are the objects of the registry.
func (b *bed) kept() (keys []string) {
	for info, err := range b.bucket.List(b.ctx, Root, "") {
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func (b *bed) all() (n int) {
	for _, err := range Versions.All(b.ctx, b.store.Read(repo.Scope{}), spec.Query[Version]{Deleted: spec.WithDeleted}) {
		if err != nil {
			b.t.Fatal(err)
		}
		n++
	}
	return n
}

func anything(int64) error { return nil }

var mlp = onnxtest.MLP(1, 4, 3)

func TestWayOfAVersion(t *testing.T) {
	b := newBed(t)
	files := map[string][]byte{ModelFile: mlp, ConfigYAML: []byte("slo: 20ms\nlabels: {best: 1}\n")}
	r := Register{Model: "m", Sources: b.sources(files), Lineage: Lineage{Code: "repo@abc"}, Notes: Notes{Card: "# m", Labels: map[string]string{"team": "a"}}}
	v, known, err := b.Register(b.ctx, r)
	if err != nil || known || v.Stage != Registered || v.Number != 1 || len(v.Inputs) != 1 || len(v.Warnings) != 1 || len(b.kept()) != 2 {
		t.Fatalf("%+v %t %v", v, known, err)
	}
	again, known, err := b.Register(b.ctx, Register{Model: "m", Sources: b.sources(files), Notes: Notes{Card: "another"}})
	if err != nil || !known || again.ID != v.ID || again.Card != "# m" || len(b.kept()) != 2 {
		t.Errorf("the same files again: %+v %t %v", again, known, err)
	}
	if err := b.trials.Round(b.ctx); err != nil {
		t.Fatal(err)
	}
	if v = b.find("m", 1); v.Stage != Ready || v.Trial.Invariance != "tried" || v.ReadyAt.IsZero() {
		t.Fatalf("%+v", v)
	}
	if served, err := Served(b.ctx, b.store); err != nil || len(served) != 1 {
		t.Errorf("%v %v", served, err)
	}
	b.inUse = "an alias names it"
	remove := Delete{Model: "m", Number: 1, Expect: anything}
	for _, cmd := range []func() error{
		func() error { _, err := cqrs.Send(b.ctx, b.bus, remove); return err },
		func() error {
			_, err := cqrs.Send(b.ctx, b.bus, Note{Model: "m", Number: 1, Expect: anything, Change: func(*Notes) {}, Stage: Archived})
			return err
		},
	} {
		if err := cmd(); fault.CodeOf(err) != "version_in_use" {
			t.Errorf("in use: %v", err)
		}
	}
	b.inUse = ""
	if _, err := cqrs.Send(b.ctx, b.bus, remove); err != nil {
		t.Fatal(err)
	}
	if _, err := cqrs.Ask(b.ctx, b.bus, Find{Model: "m", Number: 1}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if n, err := b.Sweep(b.ctx); n != 0 || err != nil || len(b.kept()) != 2 {
		t.Errorf("swept early: %d %v", n, err)
	}
	if v, err = cqrs.Send(b.ctx, b.bus, Restore{Model: "m", Number: 1}); err != nil || v.Stage != Ready || v.Deleted() {
		t.Errorf("restored: %+v %v", v, err)
	}
	if _, err := cqrs.Send(b.ctx, b.bus, remove); err != nil {
		t.Fatal(err)
	}
	if v, known, err = b.Register(b.ctx, r); err != nil || known || v.Number != 1 || v.Deleted() {
		t.Errorf("registered while it was deleted: %+v %t %v", v, known, err)
	}
	if _, err := cqrs.Send(b.ctx, b.bus, remove); err != nil {
		t.Fatal(err)
	}
	b.pass(8 * 24 * time.Hour)
	if _, err := cqrs.Send(b.ctx, b.bus, Restore{Model: "m", Number: 1}); fault.CodeOf(err) != codeGone {
		t.Errorf("restored too late: %v", err)
	}
	if n, err := b.Sweep(b.ctx); n != 1 || err != nil || len(b.kept()) != 0 || b.all() != 0 {
		t.Errorf("swept: %d %v, %v", n, err, b.kept())
	}
	other := b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, onnxtest.MLP(2, 4, 3))}}))
	v = b.must(b.Register(b.ctx, r))
	if other.Number != 2 || v.Number != 1 || v.Stage != Registered {
		t.Errorf("numbers %d and %d, want 2 and 1", other.Number, v.Number)
	}
}

// What is refused leaves nothing: no version, no object, no number.
func TestRefusedLeavesNothing(t *testing.T) {
	b := newBed(t)
	with := func(more map[string][]byte) map[string][]byte {
		files := map[string][]byte{ModelFile: mlp}
		maps.Copy(files, more)
		return files
	}
	cases := map[string]struct {
		files map[string][]byte
		code  string
	}{
		"no files":       {nil, "version_files_invalid"},
		"no model":       {map[string][]byte{ConfigYAML: nil}, "version_files_invalid"},
		"both configs":   {with(map[string][]byte{ConfigYAML: nil, ConfigPBText: nil}), "version_files_invalid"},
		"half golden":    {with(map[string][]byte{GoldenInputs: []byte("{}")}), "version_files_invalid"},
		"unused":         {with(map[string][]byte{"notes.txt": nil}), "version_files_invalid"},
		"external data":  {with(map[string][]byte{"other.onnx": nil}), "version_files_invalid"},
		"bad config":     {with(map[string][]byte{ConfigYAML: []byte("max_batchsize: 1")}), "model_config_invalid"},
		"other name":     {with(map[string][]byte{ConfigYAML: []byte("name: n")}), "model_config_invalid"},
		"other filename": {with(map[string][]byte{ConfigYAML: []byte("filename: ../x")}), "model_config_invalid"},
		"no labels":      {with(map[string][]byte{ConfigYAML: []byte("outputs: [{name: y, label_file: l.txt}]")}), "model_config_invalid"},
		"yaml bomb":      {with(map[string][]byte{ConfigYAML: []byte("a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]")}), "model_config_invalid"},
		"other port":     {with(map[string][]byte{ConfigYAML: []byte("inputs: [{name: nobody}]")}), "model_config_invalid"},
		"golden no JSON": {with(map[string][]byte{GoldenInputs: []byte("x"), GoldenOutputs: []byte("{}")}), "golden_invalid"},
		"golden huge shape": {with(map[string][]byte{GoldenInputs: []byte(`{"inputs":[{"name":"x","shape":[1099511627776,1099511627776],"datatype":"FP32","data":[]}]}`),
			GoldenOutputs: []byte(`{"outputs":[]}`)}), "golden_invalid"},
		"golden more data": {with(map[string][]byte{GoldenInputs: []byte(`{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1,2]}]}`),
			GoldenOutputs: []byte(`{"outputs":[]}`)}), "golden_invalid"},
		"no ONNX":    {map[string][]byte{ModelFile: []byte("PK\x03\x04 a zip, say")}, "model_refused"},
		"empty":      {map[string][]byte{ModelFile: {}}, "model_refused"},
		"huge label": {with(map[string][]byte{"l.txt": make([]byte, maxLabels+1)}), "version_file_too_large"},
	}
	for _, name := range []string{"../model.onnx", "/etc/passwd", "a/b", `a\b`, "..", ".hidden", "-rf", "x\x00y", "x\ny", "ünï", strings.Repeat("a", 101), ""} {
		cases["name "+name] = struct {
			files map[string][]byte
			code  string
		}{with(map[string][]byte{name: nil}), "version_files_invalid"}
	}
	for name, data := range onnxtest.Hostile() {
		cases["hostile "+name] = struct {
			files map[string][]byte
			code  string
		}{map[string][]byte{ModelFile: data}, "model_refused"}
	}
	for name, c := range cases {
		_, _, err := b.Register(b.ctx, Register{Model: "m", Sources: b.sources(c.files)})
		if code := fault.CodeOf(err); code != c.code && (code != "too_large" || !strings.HasPrefix(name, "hostile")) {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	for name, r := range map[string]Register{
		"model name": {Model: "../m"}, "reserved": {Model: "stats"}, "control": {Model: "a\x01"},
		"metric": {Model: "m", Notes: Notes{Metrics: map[string]float64{"": 1}}}, "label": {Model: "m", Notes: Notes{Labels: map[string]string{"a\n": "b"}}},
	} {
		r.Sources = b.sources(with(nil))
		if _, _, err := b.Register(b.ctx, r); !fault.Is(err, fault.Unprocessable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lying := b.source(ModelFile, mlp) // an upload's record that does not fit its object
	for what, s := range map[string]Source{
		"digest": {lying.Name, strings.Repeat("0", 64), lying.Bytes, lying.Object}, "shorter": {lying.Name, lying.SHA256, lying.Bytes - 1, lying.Object},
		"longer": {lying.Name, lying.SHA256, lying.Bytes + 1, lying.Object}, "missing": {lying.Name, lying.SHA256, lying.Bytes, lying.Object + "x"},
	} {
		if _, _, err := b.Register(b.ctx, Register{Model: "m", Sources: []Source{s}}); err == nil {
			t.Errorf("an upload that lies about its %s is taken", what)
		}
	}
	stranger := access.With(b.ctx, &access.Principal{Tenant: "acme", Subject: "eve", Permissions: access.SetOf(Read)})
	if _, _, err := b.Register(stranger, Register{Model: "m", Sources: b.sources(with(nil))}); !fault.Is(err, fault.PermissionDenied) {
		t.Errorf("without the permission: %v", err)
	}
	if kept, ledger := b.kept(), b.ledger("m"); len(kept) > 0 || b.all() > 0 || len(ledger.Numbers) > 0 {
		t.Errorf("what was refused has left %v, %d versions and %+v", kept, b.all(), ledger)
	}
}

func (b *bed) ledger(model string) Ledger {
	l, err := Ledgers.Get(b.ctx, b.store.Read(repo.Scope{}), ledgerID(model))
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		b.t.Fatal(err)
	}
	return l
}

func TestNumbers(t *testing.T) {
	b := newBed(t)
	b.taken = []int64{1, 2, 5}
	seed := uint64(0)
	register := func(n int64) (*Version, error) {
		seed++
		v, _, err := b.Register(b.ctx, Register{Model: "m", Number: n, Sources: []Source{b.source(ModelFile, onnxtest.MLP(seed, 4, 3))}})
		return v, err
	}
	for _, c := range []struct {
		want, got int64
		code      string
	}{{0, 3, ""}, {0, 4, ""}, {0, 6, ""}, {5, 0, "version_number_taken"}, {3, 0, "version_number_taken"}, {9, 9, ""}, {0, 10, ""}, {8, 8, ""}, {0, 11, ""}} {
		v, err := register(c.want)
		if fault.CodeOf(err) != c.code || err == nil && v.Number != c.got {
			t.Errorf("wanted %d: %+v, %v", c.want, v, err)
		}
	}
	if _, _, err := b.Register(b.ctx, Register{Model: "m", Number: 7, Sources: []Source{b.source(ModelFile, onnxtest.MLP(1, 4, 3))}}); fault.CodeOf(err) != "version_exists" {
		t.Errorf("known files under another number: %v", err)
	}
}

// A number is one digest's for ever, whatever comes in which order.
func TestLedgerLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, given := &Ledger{Model: "m"}, map[string]int64{}
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			digest := fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "digest"))
			taken := rapid.SliceOfN(rapid.Int64Range(1, 12), 0, 3).Draw(t, "taken")
			n, err := l.Give(digest, rapid.Int64Range(0, 12).Draw(t, "wanted"), func(n int64) bool { return slices.Contains(taken, n) })
			if err != nil {
				continue
			}
			if old, ok := given[digest]; ok && old != n || !ok && slices.Contains(taken, n) {
				t.Fatalf("digest %s had %d and gets %d", digest, old, n)
			}
			for other, m := range given {
				if other != digest && m == n {
					t.Fatalf("digests %s and %s are both %d", digest, other, n)
				}
			}
			given[digest] = n
		}
		if !maps.Equal(given, l.Numbers) {
			t.Fatalf("%v, want %v", l.Numbers, given)
		}
	})
}

// However many bring the same files at a time, there is one version of them.
func TestSameFilesAtOnce(t *testing.T) {
	b := newBed(t)
	var wg sync.WaitGroup
	ids := make([]ID, 8)
	for i := range ids {
		src := b.source(ModelFile, mlp)
		wg.Go(func() {
			v, _, err := b.Register(b.ctx, Register{Model: "m", Sources: []Source{src}})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = v.ID
		})
	}
	wg.Wait()
	if len(slices.Compact(ids)) != 1 || b.all() != 1 || len(b.kept()) != 1 {
		t.Errorf("%v, %d versions, objects %v", ids, b.all(), b.kept())
	}
	for _, key := range b.kept() {
		if owned, err := Owned(b.ctx, b.store, Root, key); err != nil || !owned {
			t.Errorf("%s is not owned: %v", key, err)
		}
		if owned, err := Owned(b.ctx, b.store, Root, key+"x"); err != nil || owned {
			t.Errorf("what nothing names is owned: %v", err)
		}
	}
}

func TestTrials(t *testing.T) {
	b := newBed(t)
	seed := uint64(100)
	register := func() *Version {
		seed++
		return b.must(b.Register(b.ctx, Register{Model: "m", Hold: true, Sources: []Source{b.source(ModelFile, onnxtest.MLP(seed, 4, 3))}}))
	}
	round := func() { _ = b.trials.Round(b.ctx) } // what it says is logged
	held := register()
	round()
	move := func(v *Version, s Stage) error {
		_, err := cqrs.Send(b.ctx, b.bus, Note{Model: "m", Number: v.Number, Expect: anything, Change: func(*Notes) {}, Stage: s})
		return err
	}
	if got := b.find("m", held.Number); got.Stage != Validated {
		t.Errorf("held: %+v", got)
	}
	for _, s := range []struct {
		to Stage
		ok bool
	}{{Registered, false}, {Ready, true}, {Ready, true}, {Archived, true}, {Registered, false}, {Ready, true}} {
		if err := move(held, s.to); (err == nil) != s.ok {
			t.Errorf("to %s: %v", s.to, err)
		}
	}

	b.tried = func(engine.Spec, *probe.Golden) (probe.Report, error) {
		return probe.Report{}, fault.New(fault.Invalid, "it crashed")
	}
	bad := register()
	round()
	if got := b.find("m", bad.Number); got.Stage != Rejected || got.Problem.Code != "trial_failed" || got.Problem.Message != "it crashed" {
		t.Errorf("rejected: %+v", got)
	}
	if err := move(bad, Ready); fault.CodeOf(err) != "version_stage" {
		t.Errorf("a rejected one becomes ready: %v", err)
	}

	b.tried = func(engine.Spec, *probe.Golden) (probe.Report, error) {
		return probe.Report{}, fault.New(fault.Unavailable, "no memory now")
	}
	if err := move(bad, Registered); err != nil {
		t.Fatal(err)
	}
	for range 2 * maxTrials { // through no fault of its own, as often as it takes
		round()
		if got := b.find("m", bad.Number); got.Stage != Registered {
			t.Fatalf("not tried: %+v", got)
		}
		b.pass(trialAgain)
	}

	dies := b.NewTrials(func(context.Context, engine.Spec, *probe.Golden) (probe.Report, error) { panic(errDied) }, "runtime", "dies")
	for i := range maxTrials + 1 {
		func() {
			defer func() {
				if p := recover(); p != nil && !errors.Is(p.(error), errDied) { //nolint:forcetypeassert // as it was thrown
					panic(p)
				}
			}()
			_ = dies.Round(b.ctx)
		}()
		got := b.find("m", bad.Number)
		if last := i == maxTrials; last != (got.Stage == Rejected) || last && got.Problem.Code != "trial_unfinished" {
			t.Fatalf("after %d processes that died of it: %+v", i+1, got)
		}
		b.trials.try = func(context.Context, engine.Spec, *probe.Golden) (probe.Report, error) {
			t.Error("it is tried while another process has claimed it")
			return probe.Report{}, nil
		}
		round()
		b.pass(trialClaim)
	}
}

var errDied = errors.New("the process died")

func TestNotesAndPages(t *testing.T) {
	b := newBed(t)
	for i := range 5 {
		b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, onnxtest.MLP(uint64(i), 4, 3))},
			Notes: Notes{Labels: map[string]string{"even": fmt.Sprint(i%2 == 0)}}}))
		b.pass(time.Hour)
	}
	b.must(b.Register(b.ctx, Register{Model: "other", Sources: []Source{b.source(ModelFile, mlp)}}))
	numbers := func(q List) (all []int64) {
		q.Model = "m"
		for {
			page, err := cqrs.Ask(b.ctx, b.bus, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range page.Items {
				all = append(all, v.Number)
			}
			if q.After = page.Next; page.Next == "" {
				return all
			}
		}
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	third := b.find("m", 3)
	for _, c := range []struct {
		q    List
		want []int64
	}{
		{List{Limit: 2}, []int64{5, 4, 3, 2, 1}}, {List{Limit: 2, Label: [2]string{"even", "true"}}, []int64{5, 3, 1}},
		{List{Stage: Ready}, nil}, {List{Digest: third.Digest}, []int64{3}}, {List{SHA256: third.SHA256}, []int64{3}},
		{List{From: start.Add(time.Hour), To: start.Add(3 * time.Hour)}, []int64{3, 2}}, {List{Deleted: true}, nil},
	} {
		if got := numbers(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.q, got, c.want)
		}
	}
	change := Note{Model: "m", Number: 3, Expect: third.Root.Expect, Change: func(n *Notes) { n.Card = "new" }}
	if v, err := cqrs.Send(b.ctx, b.bus, change); err != nil || v.Card != "new" || v.Labels["even"] != "true" {
		t.Errorf("%+v %v", v, err)
	}
	if _, err := cqrs.Send(b.ctx, b.bus, change); !fault.Is(err, fault.PreconditionFailed) {
		t.Errorf("a stale change: %v", err)
	}
	change.Expect, change.Change = anything, func(n *Notes) { n.Card = strings.Repeat("x", MaxCard+1) }
	if _, err := cqrs.Send(b.ctx, b.bus, change); fault.CodeOf(err) != "version_notes_invalid" || len(b.find("m", 3).Card) > MaxCard {
		t.Errorf("a card that is too large: %v", err)
	}
}
