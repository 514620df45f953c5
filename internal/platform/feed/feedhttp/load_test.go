//go:build load

package feedhttp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/queuefeed"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/natsqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web"
)

// The load: 2,000 consumers of one feed on JetStream over loopback, 50 events of
// 1 KiB each second. Run it with: go test -tags load -run TestLoad -v -timeout 10m
const (
	consumers = 2000
	rate      = 50
	phase     = 20 * time.Second
	warmUp    = 5 * time.Second
	backlog   = 6000 // events before it begins, more than a socket's buffers hold
)

// TestLoad runs the consumers against a server in a process of its own, twice in
// turn without and with one consumer that never reads, and checks the goals:
// every event to every consumer in order, at most 64 KiB for each connection. The
// latencies are reported; they include the time in the queue. What a connection
// takes is what the process has grown by since it served one.
func TestLoad(t *testing.T) {
	server := startServer(t)
	clients := []*loadClient{dialLoad(t, server.addr)}
	go clients[0].run()
	server.load(t, clients, warmUp, true) // the queue has its buffers now
	before, _ := server.rss(t)
	for len(clients) < consumers {
		clients = append(clients, dialLoad(t, server.addr))
		go clients[len(clients)-1].run()
	}
	time.Sleep(2 * time.Second)
	idle, _ := server.rss(t)
	var without, with []time.Duration
	for range 2 {
		without = append(without, server.load(t, clients, phase, false)...)
		with = append(with, server.load(t, clients, phase, true)...)
	}
	busy, peak := server.rss(t)
	for i, c := range clients {
		c.conn.Close()
		if c.broken.Load() != nil {
			t.Fatalf("consumer %d: %s", i, *c.broken.Load())
		}
	}
	each := func(rss int) string { return fmt.Sprintf("%.1f KiB", float64(rss-before)/consumers/1024) }
	t.Logf("%d CPUs; memory for each connection: idle %s, under load %s, with garbage %s", runtime.NumCPU(), each(idle), each(busy), each(peak))
	t.Logf("without a stalled consumer: %s", quantiles(without))
	t.Logf("with one:                   %s", quantiles(with))
	if busy-before > consumers*64<<10 {
		t.Errorf("a connection takes %s, more than 64 KiB", each(busy))
	}
}

func quantiles(d []time.Duration) string {
	slices.Sort(d)
	at := func(q float64) time.Duration {
		return d[min(int(q*float64(len(d))), len(d)-1)].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%d deliveries, p50 %s, p95 %s, p99 %s, max %s", len(d), at(0.5), at(0.95), at(0.99), at(1))
}

// child is the server's process.
type child struct {
	addr  string
	pid   int
	in    io.Writer
	lines *bufio.Reader
}

func startServer(t *testing.T) *child {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestLoadServer$")
	cmd.Env = append(os.Environ(), "SLUICE_LOAD_SERVER="+t.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	c := &child{pid: cmd.Process.Pid, in: in, lines: bufio.NewReader(out)}
	c.addr = c.line(t)
	return c
}

func (c *child) line(t *testing.T) string {
	line, err := c.lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// rss returns the resident bytes that are in use, and with what the collector
// has not collected or given back yet.
func (c *child) rss(t *testing.T) (used, all int) {
	all = c.resident(t)
	fmt.Fprintln(c.in, 0)
	c.line(t)
	return c.resident(t), all
}

func (c *child) resident(t *testing.T) int {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// load has the server publish for a phase and returns the latencies.
func (c *child) load(t *testing.T, clients []*loadClient, phase time.Duration, stall bool) (all []time.Duration) {
	if stall {
		stop := make(chan struct{})
		defer close(stop)
		go stalled(c.addr, stop)
		time.Sleep(time.Second)
	}
	for _, l := range clients { // each phase counts for itself
		l.seen.Store(0)
	}
	fmt.Fprintln(c.in, int(phase.Seconds()*rate))
	c.line(t)
	want := int64(phase.Seconds() * rate)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if !slices.ContainsFunc(clients, func(l *loadClient) bool { return l.seen.Load() < want }) {
			break
		}
	}
	for i, l := range clients {
		if got := l.seen.Load(); got != want {
			t.Fatalf("consumer %d got %d events, want %d", i, got, want)
		}
		l.mu.Lock()
		all = append(all, l.took...)
		l.took = l.took[:0]
		l.mu.Unlock()
	}
	return all
}

// stalled keeps one consumer that wants everything and reads nothing.
func stalled(addr string, stop <-chan struct{}) {
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		c.(*net.TCPConn).SetReadBuffer(4 << 10)
		io.WriteString(c, "GET /events?last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n")
		select {
		case <-stop:
			c.Close()
			return
		case <-time.After(12 * time.Second): // by then the server has given it up
			c.Close()
		}
	}
}

// loadClient is one consumer.
type loadClient struct {
	conn   net.Conn
	seen   atomic.Int64
	broken atomic.Pointer[string]
	mu     sync.Mutex
	took   []time.Duration
}

func dialLoad(t *testing.T, addr string) *loadClient {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	return &loadClient{conn: conn, took: make([]time.Duration, 0, int(phase.Seconds()*rate))}
}

// run reads events: their sequence must rise by one, and their data says when
// they were made.
func (l *loadClient) run() {
	head := bufio.NewReaderSize(l.conn, 4<<10)
	for { // to the end of the header
		if line, err := head.ReadSlice('\n'); err != nil || len(line) < 3 {
			break
		}
	}
	r := bufio.NewReaderSize(httputil.NewChunkedReader(head), 4<<10)
	last := uint64(0)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if id, ok := bytes.CutPrefix(line, []byte("id: ")); ok {
			_, digits, _ := strings.Cut(strings.TrimSpace(string(id)), "-")
			seq, _ := strconv.ParseUint(digits, 10, 64)
			if last != 0 && seq != last+1 {
				text := fmt.Sprintf("got %d after %d", seq, last)
				l.broken.CompareAndSwap(nil, &text)
			}
			last = seq
		}
		if _, rest, ok := bytes.Cut(line, []byte(`"at":`)); ok {
			digits, _, _ := bytes.Cut(rest, []byte(","))
			at, _ := strconv.ParseInt(string(digits), 10, 64)
			l.mu.Lock()
			l.took = append(l.took, time.Since(time.Unix(0, at)))
			l.mu.Unlock()
			l.seen.Add(1)
		}
	}
}

// TestLoadServer is the other process. Each line of its input is a number of
// events to publish; it answers when it has.
func TestLoadServer(t *testing.T) {
	folder := os.Getenv("SLUICE_LOAD_SERVER")
	if folder == "" {
		return // this is the process of the clients
	}
	ns, err := natsqueue.Start(t.Context(), folder, natsqueue.ServerConfig{Sync: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	q, err := natsqueue.Open(natsqueue.Config{Server: ns})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Ensure(t.Context(), queue.Stream{Name: "EVENTS", Subjects: []string{"events.>"}, Discard: queue.Oldest}); err != nil {
		t.Fatal(err)
	}
	n := 0
	publish := func() {
		n++
		pad := strings.Repeat("x", 800)
		m, err := relay.Encode(&repo.Message{ID: fmt.Sprintf("evt_%d", n), Key: repo.Key{Tenant: "t", Kind: "job", ID: "job_1"}, Stream: repo.StreamEvents,
			Type: "job.progress", Version: 1, Time: time.Now(), Data: json.RawMessage(fmt.Sprintf(`{"at":%d,"pad":%q}`, time.Now().UnixNano(), pad))})
		if err == nil {
			err = q.Publish(context.Background(), m)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for range backlog {
		publish()
	}
	hub, err := feed.NewHub(queuefeed.New(q, func(context.Context) (string, error) { return "e1", nil }, queuefeed.Config{}), feed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h := New(hub, Config{})
	server, err := web.New(web.Config{
		Name: "http", Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxHeader: 8 << 10, MaxConnections: 5000, MaxInFlight: 5000,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
	}, func(e *echo.Echo) {
		e.GET("/events", func(c echo.Context) error {
			r := c.Request()
			return h.Serve(c.Response(), r.WithContext(access.With(r.Context(), &access.Principal{Tenant: "t"})), Target{})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	runtime.GC()
	fmt.Println(server.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		count, _ := strconv.Atoi(lines.Text())
		tick := time.NewTicker(time.Second / rate)
		for range count {
			<-tick.C
			publish()
		}
		tick.Stop()
		if count == 0 {
			debug.FreeOSMemory() // what is left is in use
		}
		fmt.Println("published")
	}
	hub.Close()
	cancel()
	<-done
	q.Close()
	if err := ns.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
