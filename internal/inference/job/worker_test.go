package job

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/inference/usage"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

// inline keeps every payload in line.
type inline struct{}

func (inline) Load(_ context.Context, p Payload) ([]byte, error) { return p.Inline, nil }
func (inline) Save(_ context.Context, _ Owner, m Message) (Payload, error) {
	return Payload{Inline: m.Body, Bytes: int64(len(m.Body))}, nil
}
func (inline) Drop(context.Context, Payload) {}
func (inline) Open(context.Context, Payload, int64, int64) (io.ReadCloser, error) {
	return nil, errors.New("nobody streams here")
}

// predict is a Predictor that has every model, made of a function.
type predict func(ctx context.Context, input []byte) (Answer, error)

func (predict) Version(_, version string) (string, error) { return cmp.Or(version, "1"), nil }
func (predict) Progress(_, _ string) int64                { return time.Now().UnixNano() }

func (p predict) Predict(ctx context.Context, q Question) (Answer, error) {
	return p(ctx, q.Input.Body)
}

// bench is all that carries a prediction from its submission to its end.
type bench struct {
	t     *testing.T
	store *repo.Store
	bus   *cqrs.Bus
	queue *memqueue.Queue
	ward  *Ward
	ctx   context.Context // of the test's client
	// retain is for how long the relay can send again what the queue has lost.
	retain    time.Duration
	backlogOf *Backlog
	window    *Window // nil: nothing is let in that waits in the store
}

const (
	tenant    = "acme"
	reconcile = 5 * time.Second // the reconciler's interval
)

func newBench(t *testing.T) *bench {
	t.Helper()
	return benchOn(t, memrepo.New(memrepo.Config{OneAggregate: true}))
}

func benchOn(t *testing.T, driver repo.Driver) *bench {
	t.Helper()
	b := &bench{t: t, retain: time.Millisecond, store: repo.New(driver, repo.Config{})}
	var err error
	if b.bus, err = cqrs.NewBus(b.store, cqrs.Config{}); err != nil {
		t.Fatal(err)
	}
	if b.backlogOf, err = NewBacklog(b.store, these(tenant, "other"), BacklogConfig{}); err != nil {
		t.Fatal(err)
	}
	b.window = NewWindow(b.store, Config{Timing: timing}, nil)
	Register(b.bus, Config{Timing: timing, Queued: b.backlogOf.Queued})
	if b.ward, err = NewWard(b.store, Config{Timing: timing}, nil, nil); err != nil {
		t.Fatal(err)
	}
	b.ctx = access.With(t.Context(), &access.Principal{Tenant: tenant, Subject: "key_1", Permissions: access.SetOf(Run, Read, Replays, Release)})
	b.newQueue()
	return b
}

// newQueue replaces the queue by an empty one: all messages are lost.
func (b *bench) newQueue() {
	b.t.Helper()
	q, err := memqueue.New(memqueue.Config{})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := q.Ensure(b.t.Context(), Stream(1, time.Minute), usage.Stream(1, time.Minute)); err != nil {
		b.t.Fatal(err)
	}
	b.queue = q
}

// start runs the relay, workers and the reconciler on the present queue.
func (b *bench) start(workers int, p Predictor) (stop func()) {
	b.t.Helper()
	return b.startAll(slices.Repeat([]Predictor{p}, workers)...)
}

// startAll is start with a worker for each predictor.
func (b *bench) startAll(predictors ...Predictor) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	jobs := publisherOf(b.queue)
	r, err := relay.New(b.store, jobs, relay.Config{Retain: b.retain})
	if err != nil {
		b.t.Fatal(err)
	}
	run := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				b.t.Error(err)
			}
		})
	}
	staff := make([]*Worker, len(predictors))
	for i, p := range predictors { // they watch the store: before it is used
		staff[i] = NewWorker(b.store, p, inline{}, b.ward, Config{Timing: timing}, nil)
	}
	run(r.Run)
	if b.window != nil {
		run(b.window.Run)
	}
	run(func(ctx context.Context) error { return usage.NewFolder(b.store).Run(ctx, b.queue) })
	for _, w := range staff {
		run(func(ctx context.Context) error { return w.Run(ctx, b.queue, 4) })
	}
	run(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(reconcile):
				if _, err := NewReconciler(b.store, Config{Timing: timing}).Tenant(ctx, tenant); err != nil && ctx.Err() == nil {
					return err
				}
			}
		}
	})
	return func() { cancel(); all.Wait() }
}

func (b *bench) submit(text string, deadline time.Time) ID {
	b.t.Helper()
	p, err := cqrs.Send(b.ctx, b.bus, Submit{Model: "m", Input: Payload{Inline: json.RawMessage(text)}, Deadline: deadline})
	if err != nil {
		b.t.Fatal(err)
	}
	return p.ID
}

func (b *bench) find(id ID) Prediction {
	b.t.Helper()
	p, err := cqrs.Ask(b.ctx, b.bus, Find{ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return *p
}

// slowly takes up to so many seconds, and then answers by one of so many kinds,
// unless it is stopped before.
func slowly(seed uint64, kinds, seconds int, answer func(kind int, input []byte) (Answer, error)) predict {
	random := rand.New(rand.NewPCG(seed, seed+1))
	var mu sync.Mutex
	return func(ctx context.Context, input []byte) (Answer, error) {
		mu.Lock()
		kind, wait := random.IntN(kinds), time.Duration(random.IntN(seconds))*time.Second
		mu.Unlock()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
		return answer(kind, input)
	}
}

// Workers that stop in the middle, answers that fail, a queue that loses
// everything: each prediction ends once, with its own answer.
func TestNothingAcceptedIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		flaky := slowly(3, 8, 20, func(kind int, input []byte) (Answer, error) {
			if kind == 0 {
				return Answer{}, fault.New(fault.Unavailable, "busy").WithRetryAfter(time.Second)
			}
			return Answer{Output: Message{Body: fmt.Appendf(nil, "[%s]", input)}, Version: "1"}, nil
		})
		var ids []ID
		for round := range 5 {
			stop := b.start(3, flaky)
			for i := range 20 {
				ids = append(ids, b.submit(fmt.Sprint(round*100+i), time.Time{}))
			}
			time.Sleep(time.Duration(5+round*3) * time.Second)
			stop()
			if round%2 == 0 {
				b.newQueue()
			}
		}
		stop := b.start(3, flaky)
		time.Sleep(30 * time.Minute)
		stop()
		for i, id := range ids {
			p := b.find(id)
			want := fmt.Sprintf("[%d]", i/20*100+i%20)
			if p.Status == Failed && p.Failure.Code == "attempts_exhausted" || p.Status == Failed && p.used() == timing.Attempts {
				continue // three attempts in a row met bad luck
			}
			if p.Status != Succeeded || string(p.Output.Inline) != want {
				t.Errorf("%s is %s with %s after %d attempts, want %s", id, p.Status, p.Output.Inline, p.Attempt, want)
			}
		}
		n, err := Predictions.Count(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), statusIs(Succeeded))
		if err != nil || n < 80 {
			t.Errorf("%d of 100 succeeded, %v", n, err)
		}
	})
}

func statusIs(s Status) spec.Spec[Prediction] {
	return spec.TextField("status", func(p *Prediction) Status { return p.Status }).Eq(s)
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var stopped atomic.Bool
		endless := predict(func(ctx context.Context, _ []byte) (Answer, error) {
			<-ctx.Done()
			stopped.Store(true)
			return Answer{}, ctx.Err()
		})
		waiting := b.submit("1", time.Time{})
		if p, err := cqrs.Send(b.ctx, b.bus, Cancel{ID: waiting}); err != nil || p.Status != Cancelled || !p.StartedAt.IsZero() {
			t.Errorf("%+v, %v", p, err)
		}
		stop := b.start(1, endless)
		defer stop()
		running := b.submit("2", time.Time{})
		time.Sleep(time.Second)
		if p, err := cqrs.Send(b.ctx, b.bus, Cancel{ID: running}); err != nil || p.Status != Cancelling {
			t.Errorf("%+v, %v", p, err)
		}
		time.Sleep(time.Second) // and not with the worker's next sign of life
		if p := b.find(running); p.Status != Cancelled || !stopped.Load() || p.Output.Inline != nil {
			t.Errorf("%+v, stopped %t", p, stopped.Load())
		}
		if p, err := cqrs.Send(b.ctx, b.bus, Cancel{ID: running}); err != nil || p.Status != Cancelled {
			t.Errorf("again: %+v, %v", p, err)
		}
		if _, err := cqrs.Send(b.ctx, b.bus, Cancel{ID: "pred_none"}); !errors.Is(err, repo.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestDeadlineAndFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var tries sync.Map
		p := predict(func(ctx context.Context, input []byte) (Answer, error) {
			n, _ := tries.LoadOrStore(string(input), new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			switch string(input) {
			case `"wrong"`:
				return Answer{}, fault.New(fault.Invalid, "no such input").WithCode("bad_input")
			case `"broken"`:
				return Answer{}, errors.New("secret cause")
			}
			<-ctx.Done()
			return Answer{}, ctx.Err()
		})
		stop := b.start(2, p)
		wrong, broken := b.submit(`"wrong"`, time.Time{}), b.submit(`"broken"`, time.Time{})
		late := b.submit(`"late"`, time.Now().Add(10*time.Second))
		time.Sleep(5 * time.Minute)
		stop()
		for id, want := range map[ID]Prediction{
			wrong:  {Status: Failed, Attempt: 1, Failure: &Failure{"bad_input", "no such input", false}},
			broken: {Status: Failed, Attempt: timing.Attempts, Failure: &Failure{"internal", "internal error", true}},
			late:   {Status: Expired, Attempt: 1},
		} {
			got := b.find(id)
			if got.Status != want.Status || got.Attempt != want.Attempt || (got.Failure == nil) != (want.Failure == nil) || got.Failure != nil && *got.Failure != *want.Failure {
				t.Errorf("got %+v %+v, want %+v", got, got.Failure, want)
			}
		}
	})
}

// A worker that stops in order hands over at once, and however often that happens
// it uses up no attempt.
func TestStoppingWorkersGiveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.submit("1", time.Time{})
		endless := predict(func(ctx context.Context, _ []byte) (Answer, error) { <-ctx.Done(); return Answer{}, ctx.Err() })
		for range timing.Attempts + 2 {
			stop := b.start(1, endless)
			time.Sleep(time.Second)
			if p := b.find(id); p.Status != Running {
				t.Errorf("it is not handed over: %+v", p)
			}
			stop()
		}
		stop := b.start(1, echo)
		time.Sleep(time.Second)
		stop()
		if p := b.find(id); p.Status != Succeeded || p.GivenBack != timing.Attempts+2 {
			t.Errorf("got %+v", p)
		}
	})
}

var echo = predict(func(_ context.Context, input []byte) (Answer, error) {
	return Answer{Output: Message{Body: input}, Version: "1"}, nil
})

// A worker that dies is replaced at most the reconciler's interval after its lease,
// though the queue holds no message any more.
func TestDeadWorkerIsReplacedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.submit("1", time.Time{})
		dead := NewWorker(b.store, echo, inline{}, b.ward, Config{Timing: timing}, nil)
		if _, begun, err := dead.start(t.Context(), repo.Scope{Tenant: tenant}, id, "1", false); !begun || err != nil {
			t.Fatal(begun, err)
		}
		stop := b.start(1, echo) // finds the message, and the dead one busy
		defer stop()
		time.Sleep(timing.Lease - time.Second)
		if p := b.find(id); p.Status != Running || p.Attempt != 1 {
			t.Errorf("taken from a worker that may be alive: %+v", p)
		}
		time.Sleep(time.Second + reconcile + time.Second)
		if p := b.find(id); p.Status != Succeeded || p.Attempt != 2 {
			t.Errorf("not replaced: %+v", p)
		}
	})
}

// What a worker ran when it died is not run together again: one of them may be why.
func TestOrphansAreRunOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		dead := NewWorker(b.store, echo, inline{}, b.ward, Config{Timing: timing}, nil)
		orphans := map[string]ID{}
		for i := range 8 {
			text := fmt.Sprint(i)
			orphans[text] = b.submit(text, time.Time{})
			if _, begun, err := dead.start(t.Context(), repo.Scope{Tenant: tenant}, orphans[text], "1", false); !begun || err != nil {
				t.Fatal(begun, err)
			}
		}
		var running, most, others atomic.Int32
		stop := b.start(1, predict(func(ctx context.Context, input []byte) (Answer, error) {
			if _, orphan := orphans[string(input)]; !orphan {
				others.Add(running.Load())
				return Answer{Output: Message{Body: input}, Version: "1"}, nil
			}
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
			}
			return Answer{Output: Message{Body: input}, Version: "1"}, ctx.Err()
		}))
		defer stop()
		time.Sleep(timing.Lease + reconcile)
		for i := range 20 {
			b.submit(fmt.Sprint(100+i), time.Time{})
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		for text, id := range orphans {
			if p := b.find(id); p.Status != Succeeded || p.Attempt != 2 || string(p.Output.Inline) != text {
				t.Errorf("%s is %s after %d attempts", id, p.Status, p.Attempt)
			}
		}
		if most.Load() != 1 || others.Load() == 0 {
			t.Errorf("%d orphans ran together, beside others %d times; expected 1, and some", most.Load(), others.Load())
		}
	})
}

// What was accepted is kept until it has ended, however long that takes, and from
// then on for its time.
func TestKeptFromTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.submit("1", time.Time{})
		time.Sleep(3 * timing.Keep)
		stop := b.start(1, echo)
		time.Sleep(timing.Keep / 2)
		stop()
		if p := b.find(id); p.Status != Succeeded {
			t.Errorf("got %+v", p)
		}
		time.Sleep(timing.Keep)
		if _, err := cqrs.Ask(b.ctx, b.bus, Find{ID: id}); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("it is kept for ever: %v", err)
		}
	})
}

// What a worker lacks, or has cut off, does not end a prediction for good.
func TestFailuresThatPass(t *testing.T) {
	for _, err := range []error{context.Canceled, fault.New(fault.NotFound, "no such model"), fault.New(fault.Unavailable, "stopping"), errors.New("x")} {
		if f := failure(err); !f.Retryable {
			t.Errorf("%v: %+v", err, f)
		}
	}
	for _, k := range []fault.Kind{fault.Invalid, fault.Unprocessable, fault.TooLarge} {
		if f := failure(fault.New(k, "never")); f.Retryable {
			t.Errorf("%s: %+v", k, f)
		}
	}
}
