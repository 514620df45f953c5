package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type counterID string

type counter struct {
	aggregate.Root[counterID]
	N int
}

type counted struct{ N int }

func (counted) EventType() string { return "counter.counted" }

var counters = repo.Kind[counterID, counter]{Name: "counters", Root: func(c *counter) *aggregate.Root[counterID] { return &c.Root }}

// count adds one to a counter, which makes one event.
func count(t testing.TB, s *repo.Store, id counterID) {
	t.Helper()
	err := s.Do(context.Background(), repo.Scope{Tenant: "acme", TraceParent: "tp"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := counters.Update(ctx, tx, id, func(c *counter) error { c.N++; c.Record(counted{c.N}); return nil })
		if errors.Is(err, repo.ErrNotFound) {
			c := &counter{N: 1}
			c.ID = id
			c.Record(counted{1})
			return counters.Add(ctx, tx, c)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// memory is a queue that fails as it is told, and remembers.
type memory struct {
	mu     sync.Mutex
	stored []repo.Message // each id once
	seen   map[string]bool
	sent   int
	fail   func(queue.Message) error
}

func (q *memory) Publish(_ context.Context, messages ...queue.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return queue.Waves(messages, func(indices []int) []error {
		errs := make([]error, len(indices))
		for j, i := range indices {
			q.sent++
			if q.fail != nil {
				if errs[j] = q.fail(messages[i]); errs[j] != nil {
					continue
				}
			}
			m, err := Decode(&messages[i])
			if err != nil {
				errs[j] = err
				continue
			}
			if q.seen == nil {
				q.seen = map[string]bool{}
			}
			if !q.seen[m.ID] {
				q.seen[m.ID] = true
				q.stored = append(q.stored, m)
			}
		}
		return errs
	})
}

// sequences are the numbers of the stored events, by counter, in order.
func (q *memory) sequences() map[string][]int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := map[string][]int64{}
	for _, m := range q.stored {
		out[m.Key.ID] = append(out[m.Key.ID], m.Sequence)
	}
	return out
}

func expected(counters, events int) map[string][]int64 {
	out := map[string][]int64{}
	for c := range counters {
		for n := range events {
			id := fmt.Sprint("c", c)
			out[id] = append(out[id], int64(n+1))
		}
	}
	return out
}

func start(t *testing.T, s *repo.Store, p queue.Publisher, cfg Config) (stop func()) {
	t.Helper()
	r, err := New(s, p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

func TestOrderThroughFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
		random := rand.New(rand.NewPCG(1, 2))
		q := &memory{fail: func(queue.Message) error {
			if random.IntN(3) == 0 {
				return fault.New(fault.Unavailable, "not now").WithRetryAfter(time.Second)
			}
			return nil
		}}
		stop := start(t, s, q, Config{Batch: 7})
		var all sync.WaitGroup
		for c := range 5 {
			all.Go(func() {
				for range 40 {
					count(t, s, counterID(fmt.Sprint("c", c)))
				}
			})
		}
		all.Wait()
		time.Sleep(10 * time.Minute)
		stop()
		if d := cmp.Diff(expected(5, 40), q.sequences()); d != "" {
			t.Error(d)
		}
		if n, _, err := s.Driver().Backlog(t.Context(), 0); n != 0 || err != nil {
			t.Errorf("%d messages are left, %v", n, err)
		}
	})
}

// A queue that lost what it had acknowledged last gets it again from the next relay;
// what is older, or was published so long ago that the queue may not know its ids any
// more, it does not.
func TestLostMessagesComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
		q := &memory{}
		cfg := Config{Owner: "a", Retain: 10 * time.Minute, Again: 2 * time.Minute}
		stop := start(t, s, q, cfg)
		count(t, s, "c0")
		time.Sleep(4 * time.Minute)
		for range 10 {
			count(t, s, "c1")
			time.Sleep(10 * time.Second)
		}
		stop()
		q.stored, q.seen = nil, nil
		time.Sleep(5 * time.Minute)
		cfg.Owner = "b"
		stop = start(t, s, q, cfg)
		time.Sleep(time.Minute)
		stop()
		want := expected(2, 10)
		delete(want, "c0")
		if d := cmp.Diff(want, q.sequences()); d != "" {
			t.Error(d)
		}
		sent := q.sent
		time.Sleep(10 * time.Minute)
		stop = start(t, s, q, Config{Owner: "c"})
		time.Sleep(time.Minute)
		stop()
		if q.sent != sent {
			t.Errorf("%d messages were published after their time", q.sent-sent)
		}
	})
}

// unsure is a store that cannot say at first what was published last.
type unsure struct {
	repo.Driver
	failures int
}

func (u *unsure) Republish(ctx context.Context, shard int, within time.Duration, since time.Time) (int, error) {
	if u.failures--; u.failures >= 0 {
		return 0, fault.New(fault.Unavailable, "not now")
	}
	return u.Driver.Republish(ctx, shard, within, since)
}

// Nothing is published before what may be lost: at the next start, it would not be of the
// latest any more.
func TestWhatIsLostComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &unsure{Driver: memrepo.New(memrepo.Config{})}
		s := repo.New(driver, repo.Config{})
		q := &memory{}
		stop := start(t, s, q, Config{Owner: "a"})
		count(t, s, "c0")
		time.Sleep(time.Second)
		stop()
		q.stored, q.seen, driver.failures = nil, nil, 5
		stop = start(t, s, q, Config{Owner: "b"})
		count(t, s, "c0")
		time.Sleep(time.Minute)
		stop()
		if d := cmp.Diff(expected(1, 2), q.sequences()); d != "" {
			t.Error(d)
		}
	})
}

// Two relays at once: each shard has one owner at a time, also where one is
// killed and another takes over.
func TestOneOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
		var mu sync.Mutex
		inside, most, by := 0, 0, map[string]int{}
		owner := func(name string) queue.Publisher {
			q := &memory{}
			return publisher(func(ctx context.Context, messages ...queue.Message) error {
				mu.Lock()
				inside++
				most = max(most, inside)
				by[name] += len(messages)
				mu.Unlock()
				time.Sleep(50 * time.Millisecond)
				mu.Lock()
				inside--
				mu.Unlock()
				return q.Publish(ctx, messages...)
			})
		}
		a := start(t, s, owner("a"), Config{Owner: "a"})
		time.Sleep(time.Second)
		b := start(t, s, owner("b"), Config{Owner: "b"})
		for n := range 40 {
			count(t, s, "c0")
			time.Sleep(100 * time.Millisecond)
			if n == 20 {
				a()
				time.Sleep(20 * time.Second)
			}
		}
		time.Sleep(time.Minute)
		b()
		if most != 1 || by["a"] == 0 || by["b"] == 0 {
			t.Errorf("%d published at once; messages by owner: %v", most, by)
		}
	})
}

type publisher func(ctx context.Context, messages ...queue.Message) error

func (p publisher) Publish(ctx context.Context, messages ...queue.Message) error {
	return p(ctx, messages...)
}

// A committed message is published at once, not with the next poll.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		s := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
		q := &memory{}
		stop := start(t, s, q, Config{Poll: time.Hour, Metrics: registry})
		synctest.Wait()
		count(t, s, "c0")
		synctest.Wait()
		if len(q.sequences()["c0"]) != 1 {
			t.Error("the message waits for the poll")
		}
		stop()
		if n, err := testutil.GatherAndCount(registry); err != nil || n != 4 {
			t.Errorf("%d metrics, %v", n, err)
		}
	})
}

func TestSubjects(t *testing.T) {
	for want, m := range map[string]repo.Message{
		"events.acme.counters.70": {Stream: "events", Key: repo.Key{Tenant: "acme", Kind: "counters", ID: "c0"}},
		"audit._.audit.3":         {Stream: "audit", Key: repo.Key{Kind: "audit", ID: "e1"}},
	} {
		if got := Subject(&m); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if _, err := Decode(&queue.Message{ID: "a", Data: []byte(`{"id":"b"}`)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("another message's data was accepted: %v", err)
	}
}
