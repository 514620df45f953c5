package watch

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// silent is a queue that cannot be read.
type silent struct{ queue.Reader }

func (silent) Bounds(context.Context, string) (queue.Bounds, error) {
	return queue.Bounds{}, errors.New("no queue")
}

func (silent) Read(context.Context, queue.Read) iter.Seq2[queue.Message, error] { panic("unbounded") }

// A view is read at the start, when the queue tells of its kinds and of no others,
// again after a failure, and by and by where there is no queue.
func TestWhenItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := memqueue.New(memqueue.Config{})
		if err == nil {
			err = q.Ensure(t.Context(), queue.Stream{Name: "EVENTS", Subjects: []string{"events.>"}})
		}
		if err != nil {
			t.Fatal(err)
		}
		var told, polled atomic.Int64
		var fails atomic.Bool
		failed := prometheus.NewCounter(prometheus.CounterOpts{Name: "failed"})
		start := func(r queue.Reader, reads *atomic.Int64, poll time.Duration) func() {
			w := New(repo.New(memrepo.New(memrepo.Config{}), repo.Config{}), r, Config{Kinds: []string{"things", "others"}, Failed: failed, Poll: poll, Read: func(context.Context) error {
				reads.Add(1)
				if fails.Load() {
					return errors.New("the store is away")
				}
				return nil
			}})
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			return func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		defer start(q, &told, time.Hour)()
		defer start(silent{}, &polled, 0)()
		synctest.Wait()
		grows := func(by int64, why string, do func()) {
			t.Helper()
			before := told.Load()
			do()
			synctest.Wait()
			if got := told.Load() - before; got != by {
				t.Errorf("%s: read %d times, want %d", why, got, by)
			}
		}
		publish := func(subject string) func() {
			return func() {
				if err := q.Publish(t.Context(), queue.Message{ID: repo.RandomName(), Subject: subject}); err != nil {
					t.Error(err)
				}
			}
		}
		if told.Load() == 0 {
			t.Error("nothing was read at the start")
		}
		grows(1, "a kind", publish("events._.things.7"))
		grows(1, "another kind", publish("events._.others.7"))
		grows(0, "no kind of it", publish("events._.strangers.7"))
		grows(0, "a tenant's", publish("events.acme.things.7"))
		fails.Store(true)
		time.Sleep(time.Millisecond)
		grows(1, "while the store is away", publish("events._.things.8"))
		fails.Store(false)
		if n := testutil.ToFloat64(failed); n == 0 {
			t.Error("no failure was counted")
		}
		before := polled.Load()
		time.Sleep(12 * time.Second)
		if got := polled.Load() - before; got < 2 {
			t.Errorf("without a queue it was read %d times in 12 s", got)
		}
	})
}
