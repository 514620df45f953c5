package feedgrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedgrpc/feedpb"
	"sluice/internal/platform/feed/feedhttp"
	"sluice/internal/platform/feed/queuefeed"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mayRead access.Permission = "events:read"

// bed is a feed of a queue in memory, over gRPC and HTTP on real sockets.
type bed struct {
	*testing.T
	hub    *feed.Hub
	queue  *memqueue.Queue
	client feedpb.FeedsClient
	http   *httptest.Server
	sent   int
	who    access.Principal
}

type setup struct {
	keep    int64 // messages that the queue keeps
	hub     feed.Config
	grpc    Config
	expires time.Time
	recheck func(context.Context) error
	dial    []grpc.DialOption
}

func open(t *testing.T, s setup) *bed {
	t.Helper()
	q, err := memqueue.New(memqueue.Config{})
	if err == nil {
		err = q.Ensure(t.Context(), queue.Stream{Name: "EVENTS", Subjects: []string{"events.>"}, Discard: queue.Oldest, MaxMessages: s.keep})
	}
	if err != nil {
		t.Fatal(err)
	}
	source := queuefeed.New(q, func(context.Context) (string, error) { return "e1", nil }, queuefeed.Config{
		Labels: func(m *repo.Message) map[string]string { return map[string]string{"of": m.Key.ID} },
	})
	s.hub.End = map[string][]string{"job": {"job.done"}}
	b := &bed{T: t, queue: q, who: access.Principal{Tenant: "t", Subject: "key_1", Permissions: access.SetOf(mayRead), Expires: s.expires, Recheck: s.recheck}}
	if b.hub, err = feed.NewHub(source, s.hub); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.hub.Close)
	b.serveGRPC(s)
	b.serveHTTP()
	return b
}

// authenticate knows one credential.
func (b *bed) authenticate(_ context.Context, c identity.Credentials) (*access.Principal, error) {
	if len(c.APIKey) != 1 {
		return nil, access.ErrNoCredential
	}
	p := b.who
	if c.APIKey[0] == "none" {
		p.Permissions = access.SetOf()
	}
	return &p, nil
}

func (b *bed) serveGRPC(s setup) {
	b.Helper()
	server, err := rpc.New(rpc.Config{DrainTimeout: 10 * time.Second, Gate: &rpc.Gate{Authenticate: b.authenticate, Methods: map[string]access.Permission{
		feedpb.Feeds_Subscribe_FullMethodName: mayRead,
		"/grpc.health.v1.Health/Check":        rpc.Public, "/grpc.health.v1.Health/List": rpc.Public, "/grpc.health.v1.Health/Watch": rpc.Public,
	}}}, New(b.hub, s.grpc).Register)
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	// Windows that do not grow by themselves: what waits in them is known.
	conn, err := grpc.NewClient(listener.Addr().String(), append(s.dial, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(16<<20))...)
	if err != nil {
		b.Fatal(err)
	}
	b.client = feedpb.NewFeedsClient(conn)
	b.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
}

func (b *bed) serveHTTP() {
	h := feedhttp.New(b.hub, feedhttp.Config{})
	b.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(access.With(r.Context(), &b.who))
		serve := h.Serve
		if r.URL.Path == "/list" {
			serve = h.List
		}
		if err := serve(w, r, feedhttp.Target{Open: true}); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	b.Cleanup(b.http.Close)
	b.Cleanup(http.DefaultClient.CloseIdleConnections)
}

// publish stores an event of the job, whose data is a number of its own.
func (b *bed) publish(job, kind string) string {
	b.Helper()
	b.sent++
	return b.store(job, kind, fmt.Sprintf(`{"n":%d}`, b.sent))
}

func (b *bed) store(job, kind, data string) string {
	b.Helper()
	id := aggregate.NewID[string]("evt", uuid.Must(uuid.NewV7()))
	m, err := relay.Encode(&repo.Message{ID: id, Key: repo.Key{Tenant: "t", Kind: "job", ID: job}, Stream: repo.StreamEvents,
		Type: kind, Version: 1, Time: time.Now(), Data: json.RawMessage(data)})
	if err == nil {
		err = b.queue.Publish(b.Context(), m)
	}
	if err != nil {
		b.Fatal(err)
	}
	return id
}

// stream is one open subscription.
type stream struct {
	grpc.ServerStreamingClient[feedpb.SubscribeResponse]
	t      *testing.T
	cancel context.CancelFunc
}

func (b *bed) subscribe(r *feedpb.SubscribeRequest, opts ...grpc.CallOption) *stream {
	b.Helper()
	return b.subscribeAs("good", r, opts...)
}

func (b *bed) subscribeAs(key string, r *feedpb.SubscribeRequest, opts ...grpc.CallOption) *stream {
	b.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(b.Context(), "x-api-key", key), 30*time.Second)
	b.Cleanup(cancel)
	c, err := b.client.Subscribe(ctx, r, opts...)
	if err != nil {
		b.Fatal(err)
	}
	return &stream{c, b.T, cancel}
}

// next is the next message in words.
func (s *stream) next() string {
	m, err := s.Recv()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return "OK"
		}
		st := status.Convert(err)
		return strings.TrimSpace(st.Code().String() + " " + reasonOf(st))
	}
	switch w := m.GetWhat().(type) {
	case *feedpb.SubscribeResponse_Open:
		return "open " + w.Open.GetReplayedFrom() + " " + w.Open.GetSlow()
	case *feedpb.SubscribeResponse_Event:
		var e struct{ Data json.RawMessage }
		if err := json.Unmarshal(w.Event.GetData(), &e); err != nil {
			s.t.Error(err)
		}
		return w.Event.GetCursor() + " " + w.Event.GetType() + " " + string(e.Data[:min(len(e.Data), 20)])
	case *feedpb.SubscribeResponse_Gap:
		return "gap " + w.Gap.GetFrom() + " " + w.Gap.GetTo() + " " + w.Gap.GetReason()
	case *feedpb.SubscribeResponse_End:
		return "end " + w.End.GetCursor()
	case *feedpb.SubscribeResponse_Ping:
		return "ping"
	}
	return "nothing"
}

func (s *stream) expect(want ...string) {
	s.t.Helper()
	for _, w := range want {
		if got := s.next(); got != w {
			s.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

func (s *stream) lastCursor() string { return strings.Join(s.Trailer().Get(TrailerCursor), " ") }

func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
