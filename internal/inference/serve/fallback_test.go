package serve

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/engine"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// kept is a Recorder that keeps everything.
type kept struct {
	mu      sync.Mutex
	entries []record.Entry
}

func (k *kept) Entry() *record.Entry { return new(record.Entry) }

func (k *kept) Record(e *record.Entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.entries = append(k.entries, *e)
}

// shared is a Meter that several requests tell at the same time.
type shared struct {
	mu sync.Mutex
	counts
}

func (s *shared) Answered(r experiment.Reason, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Answered(r, d)
}

func (s *shared) Spared(r experiment.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Spared(r)
}

func (s *shared) Failed(r experiment.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Failed(r)
}

// leaning is a large version that falls back to a small one, as the first of two arms.
type leaning struct {
	*Server
	large, small, third *Version
	log                 *kept
	arm                 *shared
}

// ported is a signature of one input and output.
func ported(datatype tensor.Datatype, in, out tensor.Shape) *model.Signature {
	return &model.Signature{Inputs: []model.Port{{Name: "x", Datatype: datatype, Shape: in}}, Outputs: []model.Port{{Name: "y", Datatype: tensor.Uint8, Shape: out}}}
}

func (l *leaning) version(t *testing.T, name string, number int64, fallback model.Fallback, session engine.Session) *Version {
	t.Helper()
	sig := ported(tensor.Uint8, tensor.Shape{-1, 2}, tensor.Shape{-1, 2})
	v := &Version{Name: name, Number: number, Text: string(rune('0' + number)), SHA256: name + string(rune('0'+number)), Signature: *sig, graph: sig, Batches: true, MaxRows: 8, Stats: new(Stats), Config: model.Config{Fallback: fallback}}
	if err := v.start(session, batcher.Config{MaxRows: 1, SLO: time.Second, Executors: 1, MaxQueue: 2}, l.metrics, l.log); err != nil {
		t.Fatal(err)
	}
	return v
}

// newLeaning makes versions that take so long for a run.
func newLeaning(t *testing.T, large, small time.Duration, to model.Fallback) *leaning {
	t.Helper()
	calls = sync.Pool{New: calls.New} // a bubble has channels of its own
	t.Cleanup(func() { calls = sync.Pool{New: calls.New} })
	l := &leaning{log: new(kept), arm: new(shared)}
	l.Server = New(nil, nil, Config{Recorder: l.log})
	l.large = l.version(t, "m", 2, to, &doubled{takes: large})
	l.small = l.version(t, "m", 1, model.Fallback{Version: "3"}, &doubled{takes: small}) // which nobody comes to
	l.third = l.version(t, "m", 3, model.Fallback{}, &doubled{})
	l.put(l.large, l.small, l.third)
	allocation, err := experiment.Allocate(experiment.Arm{Name: "a", Weight: experiment.Total})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := experiment.Compile(experiment.Config{Salt: "s", Allocation: allocation})
	if err != nil {
		t.Fatal(err)
	}
	split := &route.Split{ID: "exp_1", Plan: plan, Arms: []route.Arm{{Name: "a", Digest: l.large.SHA256, Meter: l.arm}}}
	l.Name(map[string]route.Names{"m": {"": {Version: 2, Split: split}}})
	return l
}

func (l *leaning) put(versions ...*Version) {
	m := route.Model[*Version]{}
	for _, v := range versions {
		m.Versions = append(m.Versions, route.Numbered[*Version]{Number: v.Number, Text: v.Text, Digest: v.SHA256, Value: v})
	}
	l.table.Store(l.table.Load().With(versions[0].Name, m))
}

func (l *leaning) end(t *testing.T) {
	t.Helper()
	for _, v := range []*Version{l.large, l.small, l.third} {
		if err := v.retire(t.Context()); err != nil {
			t.Error(err)
		}
		if n := v.Stats.Pending.Load(); n != 0 {
			t.Errorf("%d requests pend on version %s", n, v.Text)
		}
	}
}

// question is a Codec of one row.
type question struct {
	version string
	rows    int64
	value   byte
	class   batcher.Class
	timeout time.Duration

	served, fallback, arm string
	prediction            record.ID
	out                   []byte
	err                   error
}

func (q *question) Target() (string, string) { return "m", q.version }

func (q *question) Decode(_ context.Context, _ *Version, req *Request) error {
	req.Inputs = append(req.Inputs, tensor.Tensor{Name: "x", Datatype: tensor.Uint8, Shape: tensor.Shape{q.rows, 2}, Data: slices.Repeat([]byte{q.value}, int(2*q.rows))})
	req.Class, req.Timeout, req.Tenant = q.class, q.timeout, "acme"
	return nil
}

func (q *question) Encode(_ context.Context, v *Version, resp *Response) error {
	q.served, q.fallback, q.arm, q.prediction, q.out = v.Text, resp.Fallback, resp.Choice.Arm, resp.Prediction, slices.Clone(resp.Outputs[0].Data)
	return nil
}

func (l *leaning) ask(q *question, all *sync.WaitGroup) *question {
	q.rows = 1
	all.Go(func() { q.err = l.Predict(context.Background(), q) })
	return q
}

// Whatever the load, each request is answered once with what is its own, by the version
// that it was given to or by its fallback, or refused; the answer, the arm and the log
// say which. Bulk work waits.
func TestOverloadFallsBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLeaning(t, 200*time.Millisecond, time.Duration(rapid.IntRange(1, 200).Draw(r, "small ms"))*time.Millisecond, model.Fallback{Version: "1"})
			defer l.end(t)
			var all sync.WaitGroup
			var asked []*question
			for i := range rapid.IntRange(1, 40).Draw(r, "requests") {
				q := &question{value: byte(i)}
				if rapid.IntRange(0, 9).Draw(r, "bulk") == 0 {
					q.class = batcher.Bulk
				}
				if rapid.IntRange(0, 4).Draw(r, "limited") == 0 {
					q.timeout = time.Duration(rapid.IntRange(1, 400).Draw(r, "timeout ms")) * time.Millisecond
				}
				asked = append(asked, l.ask(q, &all))
				time.Sleep(time.Duration(rapid.IntRange(0, 60).Draw(r, "pause ms")) * time.Millisecond)
			}
			all.Wait()
			l.check(t, asked)
		})
	})
}

// check compares what became of requests with what was counted and logged.
func (l *leaning) check(t *testing.T, asked []*question) {
	t.Helper()
	attempts := map[record.ID][]record.Entry{}
	for _, e := range l.log.entries {
		attempts[e.ID] = append(attempts[e.ID], e)
	}
	want, fell := counts{}, 0
	for _, q := range asked {
		entries := attempts[q.prediction]
		switch {
		case q.err != nil:
			if want.failed++; !fault.Is(q.err, fault.Unavailable) || q.served != "" || q.class == batcher.Bulk {
				t.Errorf("%+v", q)
			}
			continue
		case q.class == batcher.Bulk:
			want.spared++
		case q.fallback == "":
			want.answered++
		default:
			want.failed++
			fell++
			if q.served != "1" || q.fallback != "m:2" || q.class == batcher.Bulk || len(entries) != 2 {
				t.Fatalf("%+v, logged %+v", q, entries)
			}
			a, b := entries[0], entries[1]
			if a.Attempt != 0 || a.Version != "2" || a.Experiment != "exp_1" || a.Arm != "a" || a.Outcome != record.Refused || !overloaded(fault.New(fault.Unavailable, "").WithCode(a.Code)) {
				t.Errorf("the refusal is logged as %+v", a)
			}
			if b.Attempt != 1 || b.Version != "1" || b.Experiment != "exp_1/fallback" || b.Arm != "a" || b.Outcome != record.Succeeded || b.Code != record.FallbackCode || b.Tenant != "acme" {
				t.Errorf("the answer is logged as %+v", b)
			}
			if at, _ := b.ID.Time(); !at.Equal(b.At) || b.Latency.Total < a.Latency.Total {
				t.Errorf("%+v after %+v", b, a)
			}
		}
		if !slices.Equal(q.out, []byte{q.value, q.value}) || q.arm != "a" || q.fallback == "" && (q.served != "2" || len(entries) != 1) {
			t.Errorf("%+v, logged %+v", q, entries)
		}
	}
	if l.arm.counts != want {
		t.Errorf("the arm has counted %+v, want %+v", l.arm.counts, want)
	}
	if got := testutil.ToFloat64(l.metrics.fallbacks.WithLabelValues("m", "2", "answered")); got != float64(fell) {
		t.Errorf("%v fell back, %d were counted", fell, int(got))
	}
	if n := l.third.Stats.Inferences.Load(); n != 0 {
		t.Errorf("%d requests went further than to the fallback", n)
	}
}

// A fallback that cannot answer leaves the refusal as it was.
func TestWithoutAFallbackTheRefusalStays(t *testing.T) {
	for name, c := range map[string]struct {
		to      model.Fallback
		change  func(l *leaning)
		outcome string
	}{
		"unknown":       {model.Fallback{Model: "none"}, func(*leaning) {}, "missing"},
		"itself":        {model.Fallback{Version: "2"}, func(*leaning) {}, "missing"},
		"full":          {model.Fallback{Version: "1"}, func(l *leaning) { l.small.runtime.session.(*doubled).takes = 200 * time.Millisecond }, "refused"},
		"another form":  {model.Fallback{Version: "1"}, func(l *leaning) { l.small.graph = ported(tensor.Int8, tensor.Shape{-1, 2}, tensor.Shape{-1, 2}) }, "unfit"},
		"too many rows": {model.Fallback{Version: "1"}, func(l *leaning) { l.small.MaxRows = 0 }, "unfit"},
		"without rows":  {model.Fallback{Version: "1"}, func(l *leaning) { l.small.Batches = false }, "unfit"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaning(t, 200*time.Millisecond, time.Millisecond, c.to)
				c.change(l)
				var all sync.WaitGroup
				var asked []*question
				for i := range 30 {
					asked = append(asked, l.ask(&question{value: byte(i)}, &all))
				}
				all.Wait()
				l.check(t, asked)
				refused := slices.DeleteFunc(slices.Clone(asked), func(q *question) bool { return q.err == nil })
				if got := testutil.ToFloat64(l.metrics.fallbacks.WithLabelValues("m", "2", c.outcome)); len(refused) < 10 || got != float64(len(refused)) {
					t.Errorf("%d were refused, %v are %s", len(refused), got, c.outcome)
				}
				l.end(t)
			})
		})
	}
}

// What a fallback fails at is the request's failure.
func TestFallbackFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaning(t, 200*time.Millisecond, time.Millisecond, model.Fallback{Version: "1"})
		l.small.runtime.session = &doubled{fails: fault.New(fault.Internal, "broken")}
		var all sync.WaitGroup
		var asked []*question
		for i := range 10 {
			asked = append(asked, l.ask(&question{value: byte(i)}, &all))
		}
		all.Wait()
		broken := 0
		for _, q := range asked {
			if fault.Is(q.err, fault.Internal) {
				broken++
			}
		}
		if got := testutil.ToFloat64(l.metrics.fallbacks.WithLabelValues("m", "2", "failed")); broken == 0 || got != float64(broken) {
			t.Errorf("%d failed, counted %v", broken, got)
		}
		if last := l.log.entries[slices.IndexFunc(l.log.entries, func(e record.Entry) bool { return e.Attempt == 1 })]; last.Outcome != record.Failed || last.Code == record.FallbackCode {
			t.Errorf("%+v", last)
		}
		l.end(t)
	})
}

// What could not answer, or would lead back, is refused as far as it is known.
func TestFallbacksAreChecked(t *testing.T) {
	l := &leaning{log: new(kept)}
	l.Server = New(nil, nil, Config{})
	at := func(name string, number int64, fallback model.Fallback, sig *model.Signature) *Version {
		return &Version{Name: name, Number: number, Text: string(rune('0' + number)), graph: sig, Batches: true, MaxRows: 8, Stats: new(Stats), Config: model.Config{Fallback: fallback}}
	}
	two, four := ported(tensor.FP32, tensor.Shape{-1, 2}, tensor.Shape{-1, 2}), ported(tensor.FP32, tensor.Shape{-1, 4}, tensor.Shape{-1, 2})
	all := ported(tensor.FP32, tensor.Shape{-1, -1}, tensor.Shape{-1, 2})
	l.put(at("a", 1, model.Fallback{Model: "b"}, two))
	l.put(at("b", 1, model.Fallback{Model: "c", Version: "1"}, two))
	l.put(at("four", 1, model.Fallback{}, four))
	l.put(at("any", 1, model.Fallback{}, all))
	l.put(at("e", 1, model.Fallback{Model: "d", Version: "best"}, two))
	for name, c := range map[string]struct {
		v    *Version
		good bool
	}{
		"none":             {at("c", 1, model.Fallback{}, two), true},
		"unknown":          {at("c", 1, model.Fallback{Model: "later"}, two), true},
		"a cycle of three": {at("c", 1, model.Fallback{Model: "a"}, two), false},
		"a cycle by a label": {func() *Version {
			v := at("d", 2, model.Fallback{Model: "e"}, two)
			v.Config.Labels = map[string]int64{"best": 2}
			return v
		}(), false},
		"beside a cycle":   {at("c", 2, model.Fallback{Model: "a"}, two), true},
		"the model itself": {at("c", 1, model.Fallback{Model: "c"}, two), false},
		"its own version":  {at("a", 1, model.Fallback{Version: "1"}, two), true},
		"another shape":    {at("c", 1, model.Fallback{Model: "four"}, two), false},
		"that takes all":   {at("c", 1, model.Fallback{Model: "any"}, two), true},
		"that takes less":  {at("c", 1, model.Fallback{Model: "four"}, all), false},
	} {
		if err := l.checkFallback(c.v); (err == nil) != c.good || err != nil && (!fault.Is(err, fault.Invalid) || fault.CodeOf(err) != "fallback_unfit") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
