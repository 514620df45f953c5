package natsqueue

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/queuetest"
)

// insist publishes until the message is acknowledged.
func insist(t *testing.T, q *Queue, m queue.Message, failed func(error)) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		err := q.Publish(t.Context(), m)
		if err == nil {
			return
		}
		failed(err)
	}
	t.Errorf("%s is still not acknowledged", m.ID)
}

// storm publishes at least n messages from several goroutines until something
// has happened to the servers, and checks that each is stored exactly once and
// in the order of its subject.
func storm(t *testing.T, q *Queue, n int, happens func()) (published, failures int) {
	t.Helper()
	const publishers = 4
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	half := make(chan struct{}, publishers)
	over := make(chan struct{})
	var counts [publishers]int
	for p := range publishers {
		all.Go(func() {
			for i, last := 0, false; !last; i++ {
				if i == n/2 {
					half <- struct{}{}
				}
				select {
				case <-over:
					last = i >= n-1
				default:
				}
				counts[p]++
				insist(t, q, queue.Message{ID: fmt.Sprintf("%d-%d", p, i), Subject: fmt.Sprintf("s.%d", p)}, func(err error) {
					mu.Lock()
					defer mu.Unlock()
					failures++
					if !fault.Is(err, fault.Unavailable) {
						t.Errorf("a failure of another kind: %v", err)
					}
				})
			}
		})
	}
	for range publishers {
		<-half
	}
	happens()
	close(over)
	all.Wait()
	got := map[string][]string{}
	for m, err := range q.Read(t.Context(), queue.Read{Stream: "S"}) {
		if err != nil {
			t.Fatal(err)
		}
		got[m.Subject] = append(got[m.Subject], m.ID)
	}
	for p := range publishers {
		var want []string
		for i := range counts[p] {
			want = append(want, fmt.Sprintf("%d-%d", p, i))
		}
		if list := got[fmt.Sprintf("s.%d", p)]; !slices.Equal(list, want) {
			t.Errorf("publisher %d: %d messages are stored of %d, or not in order", p, len(list), len(want))
		}
		published += len(want)
	}
	return published, failures
}

// The server goes away while messages are published and consumed, and comes
// back on the same port and data.
func TestServerRestartsWhilePublishing(t *testing.T) {
	folder := t.TempDir()
	on := func(port int) *server.Server {
		return listen(t, func(o *server.Options) { o.Port, o.StoreDir = port, folder })
	}
	s := on(-1)
	port := s.Addr().(*net.TCPAddr).Port
	q := connect(t, Config{URLs: []string{s.ClientURL()}, Timeout: 2 * time.Second})
	if err := healthy(t, q); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var consumer sync.WaitGroup
	var mu sync.Mutex
	handled := map[string]int{}
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	consumer.Go(func() {
		err := q.Consume(ctx, queue.Consumer{Name: "c", Stream: "S", Lease: 2 * time.Second}, func(_ context.Context, d queue.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			handled[d.ID]++
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	published, failures := storm(t, q, 200, func() {
		s.Shutdown()
		s.WaitForShutdown()
		if err := q.Healthy(t.Context()); fault.CodeOf(err) != "queue_unavailable" {
			t.Errorf("Healthy without a server: %v", err)
		}
		on(port)
	})
	if failures == 0 {
		t.Error("nothing failed: the test tests nothing")
	}
	if err := healthy(t, q); err != nil || q.Reconnects() == 0 {
		t.Errorf("%d reconnects, %v", q.Reconnects(), err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		n := len(handled)
		mu.Unlock()
		if n == published {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d messages were handled", n, published)
		}
	}
	stop()
	consumer.Wait()
}

// cluster runs three servers that know each other.
func cluster(t testing.TB) []*server.Server {
	t.Helper()
	var routes []string
	var ports []int
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, "nats://"+l.Addr().String())
		l.Close()
	}
	var servers []*server.Server
	for i, port := range ports {
		servers = append(servers, listen(t, func(o *server.Options) {
			o.ServerName = fmt.Sprintf("n%d", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
			o.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		}))
	}
	return servers
}

func urls(servers []*server.Server) (list []string) {
	for _, s := range servers {
		list = append(list, s.ClientURL())
	}
	return list
}

// inCluster opens queues on one cluster of three.
func inCluster(servers []*server.Server) func(t testing.TB) queuetest.Env {
	return func(t testing.TB) queuetest.Env {
		q := connect(t, Config{URLs: urls(servers), Replicas: 3})
		if err := healthy(t, q); err != nil {
			t.Fatal(err)
		}
		return queuetest.Env{Queue: q, Remove: q.remove}
	}
}

// remove deletes a test's stream and its dead letters.
func (q *Queue) remove(stream string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = q.js.DeleteStream(ctx, stream)
	_ = q.js.DeleteStream(ctx, deadStream(stream))
}

func TestContractCluster(t *testing.T) { queuetest.Run(t, inCluster(cluster(t))) }

// The leader of the stream goes away while messages are published.
func TestLeaderStopsWhilePublishing(t *testing.T) {
	servers := cluster(t)
	q := inCluster(servers)(t).Queue.(*Queue)
	storm(t, q, 100, func() {
		s, err := q.lookup(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		leader := s.CachedInfo().Cluster.Leader
		for _, server := range servers {
			if server.Name() == leader {
				server.Shutdown()
				server.WaitForShutdown()
			}
		}
	})
	if err := healthy(t, q); err != nil {
		t.Error(err)
	}
}

// A consumer that somebody removed from the server is made again.
func TestRemovedConsumerIsMadeAgain(t *testing.T) {
	q := embedded(time.Second)(t).Queue.(*Queue)
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s"}, Retention: queue.Work}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	got := make(chan string, 10)
	var all sync.WaitGroup
	all.Go(func() {
		_ = q.Consume(ctx, queue.Consumer{Name: "c", Stream: "S", Concurrency: 2}, func(_ context.Context, d queue.Delivery) error {
			got <- d.ID
			return nil
		})
	})
	for i := range 3 {
		id := fmt.Sprint(i)
		if err := q.Publish(t.Context(), queue.Message{ID: id, Subject: "s"}); err != nil {
			t.Fatal(err)
		}
		if m := <-got; m != id {
			t.Errorf("got %s, want %s", m, id)
		}
		for { // until it is acknowledged, too
			if b, err := q.Bounds(t.Context(), "S"); err != nil || b.First > b.Last {
				break
			}
		}
		if err := q.js.DeleteConsumer(t.Context(), "S", "c"); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	all.Wait()
}

// A process that ends between burying a message and removing it buries it
// again: there is one dead letter, the newer.
func TestBuryingTwiceLeavesOne(t *testing.T) {
	q := embedded(time.Second)(t).Queue.(*Queue)
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	for attempts := 1; attempts <= 2; attempts++ {
		for _, id := range []string{"a", "b"} {
			m := queue.Message{ID: id, Subject: "s", Sequence: 1, Time: time.Unix(1, 0)}
			if err := q.bury(t.Context(), queue.DeadLetter{ID: queue.DeadID("c", id), Stream: "S", Consumer: "c", Attempts: attempts, Message: m}); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := q.Dead(t.Context(), "S", 0, 10)
	if err != nil || len(list) != 2 || list[0].Attempts != 2 || list[1].Attempts != 2 {
		t.Errorf("%v: %+v", err, list)
	}
}

// Who follows a stream that somebody removes is told, and can leave meanwhile.
func TestFollowersOfARemovedStreamAreTold(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		q := embedded(time.Second)(t).Queue.(*Queue)
		if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s"}}); err != nil {
			t.Fatal(err)
		}
		if err := q.Publish(t.Context(), queue.Message{ID: "1", Subject: "s"}); err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		ended := make(chan error, 1)
		go func() {
			var last error
			for _, err := range q.Read(ctx, queue.Read{Stream: "S", Follow: true}) {
				if last = err; err == nil {
					q.remove("S")
					if leaves {
						leave()
					}
				}
			}
			ended <- last
		}()
		select {
		case err := <-ended:
			if (err == nil) != leaves {
				t.Errorf("leaves: %v, %v", leaves, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("leaves: %v: still reading", leaves)
		}
	}
}
