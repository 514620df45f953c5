package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream/streamtest"
	"sluice/internal/platform/fault"
)

// Whatever steps come in which order, each gets what a single thread would have
// computed from its sequence's steps alone: many run at once, some fail, some
// are cut off, and names are shared between tenants.
func TestSequencesEqualTheReference(t *testing.T) {
	b := newBed(t, Config{})
	var answered, shared, failed, cut atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		var wg sync.WaitGroup
		for client := range rapid.IntRange(2, 16).Draw(rt, "clients") {
			tenant, id := fmt.Sprint("t", client%2), fmt.Sprint(client/2+1)
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(client)))
				ctx := as(context.Background(), tenant)
				state, began := int64(0), false
				for range 12 {
					c := &call{model: "roll", x: random.Int64N(1000), seq: serve.Sequence{ID: id, Start: !began || random.IntN(20) == 0, End: random.IntN(15) == 0}}
					from := state
					if c.seq.Start {
						from = 0
					}
					step, cancel := ctx, context.CancelFunc(func() {})
					switch random.IntN(8) {
					case 0:
						c.x = 5000 // the run fails
					case 1:
						c.refuse = true // the answer cannot be written
					case 2:
						step, cancel = context.WithCancel(ctx)
						time.AfterFunc(time.Duration(random.IntN(400))*time.Microsecond, cancel)
					}
					err := b.Predict(step, c)
					cancel()
					switch {
					case err == nil:
						if want := streamtest.Roll(from, c.x); c.y[0] != want || fmt.Sprint(c.names) != "[y next]" {
							t.Errorf("%s/%s: %v from state %d by %d, want %d (%v)", tenant, id, c.y, from, c.x, want, c.names)
						}
						state, began = c.y[0], !c.seq.End
						answered.Add(1)
						shared.Add(int64(min(c.batch-1, 1)))
					case c.x == 5000 || c.refuse:
						failed.Add(1)
					case fault.Is(err, fault.Canceled):
						cut.Add(1)
					default:
						t.Errorf("%s/%s: %v", tenant, id, err)
					}
				}
				if began {
					if _, err := b.step(ctx, id, 1, "e"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
	if answered.Load() == 0 || failed.Load() == 0 || cut.Load() == 0 || shared.Load() == 0 {
		t.Errorf("%d answered, %d with others, %d failed, %d cut: the property was not tested", answered.Load(), shared.Load(), failed.Load(), cut.Load())
	}
	if n := b.metric(t, "sluice_inference_sequences"); n != 0 {
		t.Errorf("%v sequences are left", n)
	}
	if n := b.metric(t, "sluice_inference_sequence_bytes"); n != 0 {
		t.Errorf("%v bytes are left", n)
	}
}

// Steps of one sequence that come at once run one after another.
func TestStepsOfOneSequenceWaitForEachOther(t *testing.T) {
	b := newBed(t, Config{})
	ctx := as(t.Context(), "t")
	if _, err := b.step(ctx, "1", 1, "s"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := b.step(ctx, "1", 1, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want := int64(0)
	for range 52 {
		want = streamtest.Roll(want, 1)
	}
	if got, err := b.step(ctx, "1", 1, "e"); err != nil || got != want {
		t.Errorf("got %d, %v, want %d", got, err, want)
	}
}

// announced is a call that says when it is decoded.
type announced struct {
	*call
	decoded chan struct{}
}

func (a announced) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	defer close(a.decoded)
	return a.call.Decode(ctx, v, req)
}

// A step may wait for its turn longer than its model's SLO: its time begins with the turn.
func TestWaitingForATurnIsNotLate(t *testing.T) {
	const slo = 100 * time.Millisecond
	b := newBed(t, Config{})
	b.server.Write(t, "roll", 1, streamtest.Stateful+"slo: "+slo.String()+"\n")
	if err := b.server.Load(t.Context(), "roll", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx := as(t.Context(), "t")
	step := func(start bool) *call { return &call{model: "roll", x: 1, seq: serve.Sequence{ID: "1", Start: start}} }
	first, second := step(true), announced{step(false), make(chan struct{})}
	late := make(chan error)
	first.on = func(serve.Step) error {
		go func() { late <- b.Predict(ctx, second) }()
		<-second.decoded
		time.Sleep(2 * slo) // it waits meanwhile
		return nil
	}
	if err := b.Predict(ctx, first); err != nil {
		t.Error(err)
	}
	if err := <-late; err != nil {
		t.Errorf("after its turn has come: %v", err)
	}
}

func TestSequenceRefusals(t *testing.T) {
	b := newBed(t, Config{})
	ctx := as(t.Context(), "t")
	if _, err := b.step(ctx, `"a`, 1, "s"); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		ctx        context.Context
		call       call
		code, text string
	}{
		"unknown":               {ctx, call{seq: serve.Sequence{ID: "9"}}, "sequence_unknown", "inference request for sequence 9 to model 'roll' must specify the START flag on the first request of the sequence"},
		"a number is no text":   {ctx, call{seq: serve.Sequence{ID: "5"}}, "sequence_unknown", "sequence 5 "},
		"another tenant's":      {as(t.Context(), "u"), call{seq: serve.Sequence{ID: `"a`}}, "sequence_unknown", "sequence a "},
		"no name":               {ctx, call{}, "sequence_missing", "inference request to model 'roll' must specify a non-zero or non-empty correlation ID"},
		"long name":             {ctx, call{seq: serve.Sequence{ID: `"` + strings.Repeat("x", 2000), Start: true}}, "invalid", "the sequence id has 2001 bytes"},
		"rows":                  {ctx, call{rows: 2, seq: serve.Sequence{ID: `"a`}}, "batch_too_large", "must specify batch-size 1"},
		"the state":             {ctx, call{outputs: []string{"state_out"}, seq: serve.Sequence{ID: `"a`}}, "invalid", "unexpected inference output 'state_out'"},
		"a generative model":    {ctx, call{model: "write"}, "stream_needed", "answers step by step"},
		"no such model":         {ctx, call{model: "none"}, "model_not_found", "unknown model"},
		"a run that fails":      {ctx, call{x: 1000, seq: serve.Sequence{ID: `"a`}}, "internal", ""},
		"a start that fails":    {ctx, call{x: 1000, seq: serve.Sequence{ID: `"b`, Start: true}}, "internal", ""},
		"behind a failed start": {ctx, call{seq: serve.Sequence{ID: `"b`}}, "sequence_unknown", ""},
	} {
		if tc.call.model == "" {
			tc.call.model = "roll"
		}
		if name == "behind a failed start" {
			bad := &call{model: "roll", x: 1000, seq: serve.Sequence{ID: `"b`, Start: true}}
			if err := b.Predict(ctx, bad); err == nil {
				t.Error("a run past the table succeeded")
			}
		}
		err := b.Predict(tc.ctx, &tc.call)
		if err == nil || tc.code != "internal" && fault.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %s, %v", name, fault.CodeOf(err), err)
		}
	}
	if got, err := b.step(ctx, `"a`, 2, ""); err != nil || got != streamtest.Roll(streamtest.Roll(0, 1), 2) {
		t.Errorf("after all that the sequence is at %d, %v", got, err)
	}
	if n := b.metric(t, "sluice_inference_sequences"); n != 1 {
		t.Errorf("%v sequences", n)
	}
}

func TestSequenceLimits(t *testing.T) {
	b := newBed(t, Config{MaxSequences: 4, MaxPerTenant: 3, TenantBytes: 2 << 10})
	ctx := as(t.Context(), "t")
	start := func(tenant, id, code string) {
		t.Helper()
		if _, err := b.step(as(t.Context(), tenant), id, 1, "s"); code == "" && err != nil || code != "" && (fault.CodeOf(err) != code || fault.Of(err).RetryAfter == 0) {
			t.Errorf("%s/%s: %v, want %q", tenant, id, err, code)
		}
	}
	start("t", "1", "")
	start("t", "2", "")
	start("t", "3", "states_per_tenant") // a state takes 1 KiB at least
	b.table.cfg.TenantBytes = 1 << 20
	start("t", "3", "")
	start("t", "4", "sequences_per_tenant")
	start("u", "1", "")
	start("v", "1", "sequences_full")
	start("t", "3", "") // once more
	if _, err := b.step(ctx, "1", 1, "e"); err != nil {
		t.Error(err)
	}
	start("v", "1", "")
	b.table.cfg.MaxBytes = 1
	if _, err := b.step(ctx, "2", 1, ""); err != nil {
		t.Errorf("a state that does not grow: %v", err)
	}
	if n := b.metric(t, "sluice_inference_sequences_refused_total"); n != 3 {
		t.Errorf("%v refusals", n)
	}
}

// A sequence that nobody uses is forgotten; each use puts that off.
func TestSequencesExpire(t *testing.T) {
	b := newBed(t, Config{})
	synctest.Test(t, func(t *testing.T) {
		b.table = newTable(b.table.cfg, b.table.metrics)
		k := key{tenant: "t", model: "roll", id: "1"}
		s, err := b.table.enter(t.Context(), k, true)
		if err != nil {
			t.Fatal(err)
		}
		s.idle = time.Minute
		b.table.leave(s)
		time.Sleep(59 * time.Second)
		if s, err = b.table.enter(t.Context(), k, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // a step in progress keeps it
		b.table.leave(s)
		time.Sleep(59 * time.Second)
		if s, err = b.table.enter(t.Context(), k, false); err != nil {
			t.Fatal(err)
		}
		b.table.leave(s)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if _, err := b.table.enter(t.Context(), k, false); fault.CodeOf(err) != "sequence_unknown" {
			t.Errorf("got %v", err)
		}
		if b.table.total != (use{}) || len(b.table.tenants) != 0 {
			t.Errorf("left: %+v", b.table.total)
		}
	})
	if n := b.metric(t, "sluice_inference_sequences_ended_total", "reason", "expired"); n != 1 {
		t.Errorf("%v expired", n)
	}
}

// Whoever waits for a turn keeps a sequence from expiring, but not for ever: it may
// give up, so that nobody takes the turn.
func TestSequencesExpireBehindWhoGaveUp(t *testing.T) {
	b := newBed(t, Config{})
	synctest.Test(t, func(t *testing.T) {
		b.table = newTable(b.table.cfg, b.table.metrics)
		s, err := b.table.enter(t.Context(), key{tenant: "t", model: "roll", id: "1"}, true)
		if err != nil {
			t.Fatal(err)
		}
		s.idle = time.Minute
		b.table.leave(s)
		waiting := func(n int) {
			b.table.mu.Lock()
			defer b.table.mu.Unlock()
			s.waiting += n
		}
		waiting(1)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if b.table.total.sequences != 1 || len(s.turn) != 0 {
			t.Errorf("%d sequences, %d turns are taken", b.table.total.sequences, len(s.turn))
		}
		waiting(-1)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if b.table.total != (use{}) {
			t.Errorf("left: %+v", b.table.total)
		}
		b.table.expire(s) // a timer that fired before the sequence ended
		if len(s.turn) != 0 {
			t.Error("the turn is taken")
		}
	})
}

// A swap ends the sequences that the new version would continue with a state
// that is not its own.
func TestSequencesStayWithTheirVersion(t *testing.T) {
	b := newBed(t, Config{})
	ctx := as(t.Context(), "t")
	if _, err := b.step(ctx, "1", 1, "s"); err != nil {
		t.Fatal(err)
	}
	own := b.Own()
	defer b.Release(own)
	if err := b.Step(ctx, &call{model: "roll", x: 1}, own); err != nil {
		t.Fatal(err)
	}
	b.server.Write(t, "roll", 2, streamtest.Stateful+"version_policy: {all: true}\n")
	if err := b.Load(ctx, "roll", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.step(ctx, "1", 1, ""); fault.CodeOf(err) != "sequence_version_changed" {
		t.Errorf("got %v", err)
	}
	old := &call{model: "roll", version: "1", x: 1, seq: serve.Sequence{ID: "1"}}
	if err := b.Predict(ctx, old); err != nil || old.y[0] != streamtest.Roll(streamtest.Roll(0, 1), 1) {
		t.Errorf("on the old version: %v, %v", old.y, err)
	}
	mine := &call{model: "roll", x: 1}
	if err := b.Step(ctx, mine, own); err != nil || mine.y[0] != streamtest.Roll(streamtest.Roll(0, 1), 1) {
		t.Errorf("a stream's own: %v, %v", mine.y, err)
	}
	b.server.Write(t, "roll", 2, streamtest.Stateful) // the latest only
	if err := b.Load(ctx, "roll", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Step(ctx, &call{model: "roll", x: 1}, own); fault.CodeOf(err) != "sequence_version_changed" {
		t.Errorf("got %v", err)
	}
}
