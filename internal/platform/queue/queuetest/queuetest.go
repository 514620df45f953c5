// Package queuetest is the contract of package queue as a test suite, and the
// benchmarks that go with it. Every adapter passes it: memqueue, natsqueue in
// process, and natsqueue on a cluster.
//
// Known limits: it runs in real time, with leases and delays of a few hundred
// milliseconds, so that a machine that stands still for longer can fail it.
package queuetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// Env is a queue under test.
type Env struct {
	Queue queue.Queue
	// Restart ends the queue and its server, and returns a new one on the same
	// data. Nil says that nothing survives.
	Restart func(t testing.TB) queue.Queue
	// Remove removes a stream at the end of a test; nil if the queue ends with it.
	Remove func(stream string)
}

// Run runs the contract. open returns a queue for one test, and ends it with
// the test's clean-up.
func Run(t *testing.T, open func(t testing.TB) Env) {
	suites := []map[string]func(*fixture){publishing, consuming, ordering, burying, reading}
	if open(t).Restart != nil {
		suites = append(suites, restarting)
	}
	for _, suite := range suites {
		for _, name := range slices.Sorted(maps.Keys(suite)) {
			t.Run(name, func(t *testing.T) { suite[name](newFixture(t, open(t))) })
		}
	}
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// fixture is one test's queue and stream, with short words for what tests do.
type fixture struct {
	*testing.T
	env    Env
	q      queue.Queue
	stream string
	ctx    context.Context //nolint:containedctx // lives as long as the test
}

func newFixture(t *testing.T, env Env) *fixture {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	return &fixture{T: t, env: env, q: env.Queue, stream: "T" + strings.ToUpper(rand.Text()[:10]), ctx: ctx}
}

// subject is the subject of the test's stream for a key.
func (f *fixture) subject(key string) string { return strings.ToLower(f.stream) + "." + key }

// work makes the test's stream one of work, after changes by with.
func (f *fixture) work(with ...func(*queue.Stream)) {
	f.Helper()
	f.ensure(append([]func(*queue.Stream){func(s *queue.Stream) { s.Retention = queue.Work }}, with...)...)
}

// ensure makes the test's stream.
func (f *fixture) ensure(with ...func(*queue.Stream)) {
	f.Helper()
	s := f.config(with...)
	if err := f.q.Ensure(f.ctx, s); err != nil {
		f.Fatalf("Ensure: %v", err)
	}
}

func (f *fixture) config(with ...func(*queue.Stream)) queue.Stream {
	s := queue.Stream{Name: f.stream, Subjects: []string{f.subject(">")}, MaxBytes: 64 << 20}
	for _, change := range with {
		change(&s)
	}
	if f.env.Remove != nil {
		f.Cleanup(func() { f.env.Remove(s.Name) })
	}
	return s
}

// message makes one with an ID that says its key and number.
func (f *fixture) message(key string, n int) queue.Message {
	return queue.Message{ID: fmt.Sprintf("%s-%s-%d", f.stream, strings.ReplaceAll(key, ".", "-"), n), Subject: f.subject(key), Data: fmt.Appendf(nil, "%s %d", key, n)}
}

// publish stores n messages of a key, which are numbered from 0.
func (f *fixture) publish(key string, n int) []queue.Message {
	f.Helper()
	list := make([]queue.Message, n)
	for i := range list {
		list[i] = f.message(key, i)
	}
	if err := f.q.Publish(f.ctx, list...); err != nil {
		f.Fatalf("Publish: %v", err)
	}
	return list
}

// consumer is a configuration with short times.
func (f *fixture) consumer(with ...func(*queue.Consumer)) queue.Consumer {
	c := queue.Consumer{
		Name: "c", Stream: f.stream, Concurrency: 4, Lease: 10 * time.Second, MaxAttempts: 3,
		Backoff: queue.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond}, Drain: 5 * time.Second,
	}
	for _, change := range with {
		change(&c)
	}
	return c
}

// consume runs a consumer until the returned function, or the test's end.
func (f *fixture) consume(c queue.Consumer, handle queue.Handler) (stop func()) {
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan error, 1)
	go func() { done <- f.q.Consume(ctx, c, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				f.Errorf("Consume: %v", err)
			}
		case <-time.After(patience):
			f.Errorf("Consume did not return %s after it was cancelled", patience)
		}
	})
	f.Cleanup(stop)
	return stop
}

// until waits for a condition that another goroutine brings about.
func (f *fixture) until(what string, ok func() bool) {
	f.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			f.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// dead returns the stream's dead letters by message ID.
func (f *fixture) dead() map[string]queue.DeadLetter {
	f.Helper()
	list, err := f.q.Dead(f.ctx, f.stream, 0, 1000)
	if err != nil {
		f.Fatalf("Dead: %v", err)
	}
	out := map[string]queue.DeadLetter{}
	for _, d := range list {
		out[d.Message.ID] = d
	}
	if len(out) != len(list) {
		f.Errorf("%d dead letters for %d messages", len(list), len(out))
	}
	return out
}

// code fails the test unless err has the kind and code.
func (f *fixture) code(err error, kind fault.Kind, code string) {
	f.Helper()
	if err == nil {
		f.Errorf("no error, want %s with code %s", kind, code)
	} else if !fault.Is(err, kind) || fault.CodeOf(err) != code {
		f.Errorf("got %v (%s, %s), want %s with code %s", err, fault.Of(err).Kind, fault.CodeOf(err), kind, code)
	}
}

// log keeps what a handler saw.
type log struct {
	mu   sync.Mutex
	list []queue.Delivery
	at   []time.Time
}

func (l *log) add(d queue.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, d)
	l.at = append(l.at, time.Now())
}

func (l *log) all() []queue.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// ids counts deliveries by message.
func (l *log) ids() map[string]int {
	out := map[string]int{}
	for _, d := range l.all() {
		out[d.ID]++
	}
	return out
}

// record returns a handler that keeps what it sees and succeeds.
func (l *log) record(_ context.Context, d queue.Delivery) error {
	l.add(d)
	return nil
}
