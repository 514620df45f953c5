package rollout

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/inference/route"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// silent is a queue that cannot be read.
type silent struct{ queue.Reader }

func (silent) Bounds(context.Context, string) (queue.Bounds, error) {
	return queue.Bounds{}, errors.New("no queue")
}

func (silent) Read(context.Context, queue.Read) iter.Seq2[queue.Message, error] { panic("unbounded") }

// What one node changes is in effect there at once, on others when the queue tells
// of it, and without a queue when the store is next asked.
func TestEveryNodeFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := memrepo.New(memrepo.Config{OneAggregate: true})
		if err := driver.Migrate(t.Context(), []*repo.Schema{Aliases.Schema(), repo.LeaseSchema()}); err != nil {
			t.Fatal(err)
		}
		q, err := memqueue.New(memqueue.Config{})
		if err == nil {
			// All that commands publish: the relay rests where a message finds no stream.
			err = q.Ensure(t.Context(), queue.Stream{Name: "EVENTS", Subjects: []string{"events.>"}, Retention: queue.Limits, Discard: queue.Oldest},
				queue.Stream{Name: "AUDIT", Subjects: []string{"audit.>"}, Retention: queue.Limits, Discard: queue.Oldest})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 8)
		routers, running := map[string]*router{}, 0
		var bus *cqrs.Bus
		for name, reader := range map[string]queue.Reader{"here": q, "there": q, "deaf": silent{}} {
			store := repo.New(driver, repo.Config{})
			routers[name] = &router{}
			f, err := NewFollower(store, reader, routers[name], FollowerConfig{})
			if err != nil {
				t.Fatal(err)
			}
			if name == "here" {
				r, err := relay.New(store, q, relay.Config{})
				if err != nil {
					t.Fatal(err)
				}
				if bus, err = cqrs.NewBus(store, cqrs.Config{}); err != nil {
					t.Fatal(err)
				}
				Register(bus, &shelf{most: 5})
				go func() { ended <- r.Run(ctx) }()
				running++
			}
			go func() { ended <- f.Run(ctx) }()
			running++
		}
		time.Sleep(3 * time.Second) // whoever takes leases has them
		b := &bed{bus: bus}
		wait := func(name string, version int64, most time.Duration) {
			t.Helper()
			began := time.Now()
			for routers[name].version("") != version && time.Since(began) <= most {
				time.Sleep(time.Millisecond)
			}
			if got := routers[name].version("champion"); got != version {
				t.Errorf("%s routes to %d after %s, want %d", name, got, time.Since(began), version)
			}
		}
		for i, version := range []string{"1", "2", "3"} {
			b.set(t, "key_a", route.Default, version, false)
			wait("here", int64(i+1), time.Millisecond)
			wait("there", int64(i+1), time.Second)
			wait("deaf", int64(i+1), 6*time.Second)
		}
		if _, err := cqrs.Send(as("key_a"), bus, RemoveAlias{Model: "m", Alias: "champion", Expect: Expectation{Any: true}}); err != nil {
			t.Fatal(err)
		}
		wait("there", 0, time.Second)
		stop()
		for range running {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
