package natsqueue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/platform/queue"
)

// Handlers that have nothing to do share their requests, none of which is for more
// messages than there are handlers free; and what was published is handled.
func TestIdleHandlersShareRequests(t *testing.T) {
	server, q := start(t, t.TempDir(), time.Second)
	defer end(t, server, q)
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s.>"}, Retention: queue.Work}); err != nil {
		t.Fatal(err)
	}
	const handlers, messages = 512, 3000 // they come at once, while all handlers wait
	var requests, most atomic.Int64
	spy, err := q.conn.Subscribe("$JS.API.CONSUMER.MSG.NEXT.>", func(m *nats.Msg) {
		var n int64
		if _, err := fmt.Sscanf(string(m.Data), `{"batch":%d`, &n); err != nil {
			t.Error(err)
		}
		requests.Add(1)
		most.Store(max(most.Load(), n))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = spy.Unsubscribe() }()
	ctx, stop := context.WithCancel(t.Context())
	var done, running, together atomic.Int64
	all := make(chan struct{})
	consumed := make(chan error, 1)
	go func() {
		consumed <- q.Consume(ctx, queue.Consumer{Name: "c", Stream: "S", Concurrency: handlers}, func(context.Context, queue.Delivery) error {
			together.Store(max(together.Load(), running.Add(1)))
			defer running.Add(-1)
			if done.Add(1) == messages {
				close(all)
			}
			return nil
		})
	}()
	idle := time.Now().Add(4 * q.pullTime())
	for time.Now().Before(idle) {
		time.Sleep(q.pullTime()) // several requests end meanwhile
	}
	if n := requests.Load(); n == 0 || n > handlers {
		t.Errorf("%d requests by %d handlers that had nothing to do for %s: one each is too many by far", n, handlers, 4*q.pullTime())
	}
	burst := make([]queue.Message, messages)
	for i := range burst {
		burst[i] = queue.Message{ID: fmt.Sprint(i), Subject: fmt.Sprint("s.", i)}
	}
	if err := q.Publish(t.Context(), burst...); err != nil {
		t.Fatal(err)
	}
	select {
	case <-all:
	case <-time.After(20 * time.Second):
		t.Fatalf("%d of %d handled", done.Load(), messages)
	}
	stop()
	if err := <-consumed; err != nil {
		t.Fatal(err)
	}
	if most.Load() > handlers || together.Load() > handlers || done.Load() != messages {
		t.Errorf("%d messages asked for at once, %d handled at once, %d in all", most.Load(), together.Load(), done.Load())
	}
}

// Where there are as many messages as handlers, all are handled at once, however long
// each takes: nobody waits for a request that has been fulfilled.
func TestNoHandlerIsForgotten(t *testing.T) {
	server, q := start(t, t.TempDir(), time.Second)
	defer end(t, server, q)
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s.>"}, Retention: queue.Work}); err != nil {
		t.Fatal(err)
	}
	for handlers := 1; handlers <= 9; handlers++ {
		for i := range handlers {
			if err := q.Publish(t.Context(), queue.Message{ID: fmt.Sprint(handlers, "-", i), Subject: fmt.Sprintf("s.%d.%d", handlers, i)}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		began, release, consumed := make(chan struct{}, handlers), make(chan struct{}), make(chan error, 1)
		go func() {
			c := queue.Consumer{Name: fmt.Sprint("c", handlers), Stream: "S", Filters: []string{fmt.Sprintf("s.%d.>", handlers)}, Concurrency: handlers}
			consumed <- q.Consume(ctx, c, func(context.Context, queue.Delivery) error {
				began <- struct{}{}
				<-release
				return nil
			})
		}()
		enough := time.After(q.pullTime() + q.cfg.Timeout/2)
		for i, late := 0, false; i < handlers && !late; i++ {
			select {
			case <-began:
			case <-enough:
				t.Errorf("%d of %d messages are handled at once", i, handlers)
				late = true
			}
		}
		close(release)
		stop()
		if err := <-consumed; err != nil {
			t.Fatal(err)
		}
	}
}

// Whom a message was handed to is no longer counted among those that wait for one.
func TestWhoHasAMessageDoesNotWait(t *testing.T) {
	p := &puller{waiting: 3, asked: 3}
	for i := range 3 {
		if m, err := p.arrived(&nats.Msg{}); m == nil || err != nil || p.waiting != 2-i || p.asked != 2-i {
			t.Errorf("%d wait, %d asked for, %v", p.waiting, p.asked, err)
		}
	}
}
