package serve

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/engine"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/inference/shadow"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// doubled is a session that answers each value twice, after some time.
type doubled struct {
	takes time.Duration
	fails error
	runs  atomic.Int64
}

func (s *doubled) Run(ctx context.Context, parts []*engine.Part) error {
	s.runs.Add(1)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.fails != nil {
		return s.fails
	}
	for _, p := range parts {
		p.Outputs = append(p.Outputs, tensor.Tensor{Name: "y", Datatype: tensor.Uint8, Shape: p.Inputs[0].Shape, Data: p.Inputs[0].Data})
		p.Own()
	}
	return nil
}

func (s *doubled) Close() error { return nil }

// verdicts are what a judge was told.
type verdicts struct {
	mu      sync.Mutex
	pairs   []route.Pair // without memory
	answers [][]byte
	failed  int
	dropped map[shadow.Dropped]int
	panics  bool
}

func (j *verdicts) Compare(p *route.Pair) shadow.Difference {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.panics {
		panic("a judge")
	}
	j.answers = append(j.answers, slices.Clone(p.Champion.Outputs[0].Data), slices.Clone(p.Candidate.Outputs[0].Data))
	q := *p
	q.Champion.Outputs, q.Candidate.Outputs = nil, nil
	j.pairs = append(j.pairs, q)
	return shadow.Difference{Rows: int64(p.Rows)}
}

func (j *verdicts) Failed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed++
}

func (j *verdicts) Dropped(why shadow.Dropped) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dropped == nil {
		j.dropped = map[shadow.Dropped]int{}
	}
	j.dropped[why]++
}

// told returns what came of so many copies, once all have come to something.
func (j *verdicts) told() (compared, failed int, dropped map[shadow.Dropped]int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.pairs), j.failed, maps.Clone(j.dropped)
}

// shaded is a version with a shadow, in a bubble of time.
type shaded struct {
	t         *testing.T
	server    *Server
	champion  *Version
	candidate *Version
	session   *doubled // of the candidate
	judge     *verdicts
	choice    route.Choice[*Version]
	others    atomic.Int64 // requests in progress elsewhere
}

func newShaded(t *testing.T, cfg ShadowConfig) *shaded {
	t.Helper()
	calls = sync.Pool{New: calls.New} // a bubble has channels of its own
	t.Cleanup(func() { calls = sync.Pool{New: calls.New} })
	s := &shaded{t: t, session: &doubled{takes: time.Microsecond}, judge: new(verdicts)}
	s.server = New(nil, nil, Config{Shadow: cfg})
	s.server.shadows.cores = 2
	s.server.shadows.busy = func(int) bool { return s.others.Load() > 0 }
	s.champion, s.candidate = s.version(1, &doubled{}), s.version(2, s.session)
	split := &route.Split{ID: "rel_1", Arms: []route.Arm{{Name: "champion"}}, Shadow: &route.Shadow{Name: "candidate", Sample: 1, Judge: s.judge}}
	s.choice = route.Choice[*Version]{Value: s.champion, Split: split, Reason: experiment.ByUnit, Shadow: s.candidate}
	return s
}

func (s *shaded) version(number int64, session engine.Session) *Version {
	s.t.Helper()
	sig := &model.Signature{Inputs: []model.Port{{Name: "x", Datatype: tensor.Uint8, Shape: tensor.Shape{-1, 2}}}, Outputs: []model.Port{{Name: "y", Datatype: tensor.Uint8, Shape: tensor.Shape{-1, 2}}}}
	v := &Version{Name: "m", Number: number, Text: string(rune('0' + number)), graph: sig, Batches: true, MaxRows: 8, Stats: new(Stats)}
	if err := v.start(session, batcher.Config{MaxRows: 8, SLO: time.Second, Executors: 1}, s.server.metrics, nil); err != nil {
		s.t.Fatal(err)
	}
	return v
}

// answered offers a request of so many rows that was answered, whose memory is
// written over right after that.
func (s *shaded) answered(rows int) {
	c := newCall()
	name := []byte("x")
	wire := make([]byte, 2*rows)
	for i := range wire {
		wire[i] = byte(i + 1)
	}
	c.part.Inputs = append(c.part.Inputs, tensor.Tensor{Name: unsafe.String(&name[0], 1), Datatype: tensor.Uint8, Shape: tensor.Shape{int64(rows), 2}, Data: wire})
	c.part.Rows = rows
	c.request.Prediction, c.response.Timing.Infer = record.ID{1}, time.Millisecond
	if err := (&doubled{}).Run(context.Background(), []*engine.Part{&c.part}); err != nil {
		s.t.Fatal(err)
	}
	s.server.shadows.offer(context.Background(), s.champion, &s.choice, c)
	clear(wire)
	clear(name)
	c.free()
}

// end closes the server, and expects all copies to be given back.
func (s *shaded) end() {
	s.t.Helper()
	s.server.shadows.close()
	if n := s.server.shadows.bytes.Load(); n != 0 {
		s.t.Errorf("%d bytes are still taken", n)
	}
	for _, v := range []*Version{s.champion, s.candidate} {
		if v.refs.Load() > 0 {
			if err := v.retire(s.t.Context()); err != nil {
				s.t.Error(err)
			}
		}
	}
}

func (s *shaded) expect(compared, failed int, dropped map[shadow.Dropped]int) {
	s.t.Helper()
	c, f, d := s.judge.told()
	if c != compared || f != failed || !maps.Equal(d, dropped) {
		s.t.Errorf("%d compared, %d failed, dropped %v; want %d, %d, %v", c, f, d, compared, failed, dropped)
	}
}

// What is compared is what was asked, though the request's memory is gone.
func TestShadowsAnswerWhatWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShaded(t, ShadowConfig{})
		for rows := range 5 {
			s.answered(rows)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		s.expect(5, 0, nil)
		for rows, p := range s.judge.pairs {
			if want := s.judge.answers[2*rows]; p.Rows != rows || p.Champion.Took != time.Millisecond || p.Candidate.Took != time.Microsecond || p.Champion.Prediction != (record.ID{1}) ||
				!slices.Equal(want, s.judge.answers[2*rows+1]) || len(want) != 2*rows || rows > 0 && want[0] != 1 {
				t.Errorf("%d rows: %+v, %v", rows, p, s.judge.answers[2*rows:2*rows+2])
			}
		}
		if s.candidate.Stats.Inferences.Load() != 0 {
			t.Error("a shadow counts as served")
		}
		s.end()
	})
}

// A shadow runs as soon as there is capacity, not before and not for ever.
func TestShadowsWaitForIdleCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShaded(t, ShadowConfig{Wait: time.Second})
		s.others.Store(1)
		s.answered(1)
		time.Sleep(500 * time.Millisecond)
		if s.session.runs.Load() != 0 {
			t.Error("it ran beside a request")
		}
		s.others.Store(0)
		time.Sleep(2 * look)
		s.expect(1, 0, nil)

		s.others.Store(1)
		s.answered(1)
		time.Sleep(time.Second + 2*look)
		s.expect(1, 0, map[shadow.Dropped]int{shadow.Busy: 1})
		s.champion.Stats.Pending.Store(3) // it is busy itself: nothing is copied
		s.answered(1)
		if n := s.server.shadows.bytes.Load(); n != 0 {
			t.Errorf("a busy server keeps %d bytes", n)
		}
		s.expect(1, 0, map[shadow.Dropped]int{shadow.Busy: 2})
		s.end()
	})
}

// A run that requests overtake, whose version is unloaded, or that the end of the
// process meets, ends at once and speaks against nobody; one that fails or takes too
// long does.
func TestShadowsGiveWay(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(s *shaded)
		failed    int
		dropped   map[shadow.Dropped]int
		within    time.Duration
	}{
		"overtaken": {func(s *shaded) { s.others.Store(1) }, 0, map[shadow.Dropped]int{shadow.Busy: 1}, 2 * look},
		"unloaded":  {func(s *shaded) { s.candidate.release() }, 0, map[shadow.Dropped]int{shadow.Missing: 1}, 2 * look},
		"the end":   {func(s *shaded) { s.server.shadows.close() }, 0, map[shadow.Dropped]int{shadow.Closing: 1}, 2 * look},
		"too slow":  {func(*shaded) {}, 1, nil, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShaded(t, ShadowConfig{Timeout: 5 * time.Second})
				s.session.takes = time.Hour
				s.answered(1)
				time.Sleep(10 * look)
				if s.session.runs.Load() != 1 {
					t.Fatal("it does not run")
				}
				c.meanwhile(s)
				time.Sleep(c.within)
				s.expect(0, c.failed, c.dropped)
				s.end()
			})
		})
	}
}

// Whatever a shadow does, the next one runs.
func TestShadowsSurviveTheirCandidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShaded(t, ShadowConfig{})
		s.session.fails = fault.New(fault.Internal, "it cannot")
		s.answered(1)
		s.answered(100) // more rows than it takes at once
		time.Sleep(time.Second)
		s.expect(0, 2, nil)
		s.session.fails, s.judge.panics = nil, true
		s.answered(1)
		time.Sleep(time.Second)
		s.expect(0, 3, nil)
		s.judge.panics = false
		s.answered(1)
		time.Sleep(time.Second)
		s.expect(1, 3, nil)
		s.choice.Shadow = nil
		s.answered(1)
		s.choice.Shadow = s.candidate
		s.candidate.release()
		s.answered(1)
		time.Sleep(time.Second)
		s.expect(1, 3, map[shadow.Dropped]int{shadow.Missing: 2})
		s.end()
	})
}

// What waits is bounded in number and memory, and the end waits for none of it.
func TestShadowsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShaded(t, ShadowConfig{Queue: 2, Memory: 200})
		s.others.Store(1)
		for range 6 {
			s.answered(1) // 16 bytes: one waits at the worker, two in the queue
			synctest.Wait()
		}
		s.expect(0, 0, map[shadow.Dropped]int{shadow.Full: 3})
		s.end()
		s.expect(0, 0, map[shadow.Dropped]int{shadow.Full: 3, shadow.Closing: 3})
		s.answered(1)
		s.expect(0, 0, map[shadow.Dropped]int{shadow.Full: 3, shadow.Closing: 4})
	})
	synctest.Test(t, func(t *testing.T) {
		s := newShaded(t, ShadowConfig{Memory: 40})
		s.others.Store(1)
		for range 6 {
			s.answered(1)
		}
		s.expect(0, 0, map[shadow.Dropped]int{shadow.Full: 4})
		s.end()
	})
}

// A part of the requests is a part of the requests.
func TestShadowsSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShaded(t, ShadowConfig{Queue: 1000})
		s.choice.Split.Shadow.Sample = 0.25
		for range 1000 {
			s.answered(1)
		}
		time.Sleep(time.Minute)
		// 250 with a standard deviation of 13.7: six of them on either side.
		if n, _, _ := s.judge.told(); n < 168 || n > 332 {
			t.Errorf("%d of 1000 were compared, want about 250", n)
		}
		s.end()
	})
}
