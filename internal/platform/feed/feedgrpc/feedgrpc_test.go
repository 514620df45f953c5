package feedgrpc

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/stats"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedgrpc/feedpb"
)

func TestEventsOfAFilter(t *testing.T) {
	b := open(t, setup{})
	b.publish("a", "job.made")
	id := b.publish("b", "job.made")
	b.publish("a", "job.moved")
	b.publish("b", "job.moved")
	for name, tt := range map[string]struct {
		in   *feedpb.SubscribeRequest
		want []string
	}{
		"all":             {&feedpb.SubscribeRequest{After: "earliest"}, []string{"open e1-0 spill", `e1-1 job.made {"n":1}`, `e1-2 job.made {"n":2}`, `e1-3 job.moved {"n":3}`, `e1-4 job.moved {"n":4}`}},
		"behind a cursor": {&feedpb.SubscribeRequest{After: "e1-3", Slow: "conflate"}, []string{"open e1-3 conflate", `e1-4 job.moved {"n":4}`}},
		"behind an id":    {&feedpb.SubscribeRequest{After: id}, []string{"open e1-2 spill", `e1-3 job.moved {"n":3}`}},
		"of one thing":    {&feedpb.SubscribeRequest{After: "earliest", Kind: "job", Id: "b"}, []string{"open e1-0 spill", `e1-2 job.made {"n":2}`, `e1-4 job.moved {"n":4}`}},
		"of a type":       {&feedpb.SubscribeRequest{After: "earliest", Types: []string{"job.moved"}}, []string{"open e1-0 spill", `e1-3 job.moved {"n":3}`}},
		"of a label":      {&feedpb.SubscribeRequest{After: "earliest", Labels: map[string]string{"of": "b"}}, []string{"open e1-0 spill", `e1-2 job.made {"n":2}`}},
		"of no kind":      {&feedpb.SubscribeRequest{After: "bad cursor"}, []string{"InvalidArgument cursor_malformed"}},
		"a pattern":       {&feedpb.SubscribeRequest{Kind: "*.>"}, []string{"InvalidArgument feed_request_invalid"}},
		"id alone":        {&feedpb.SubscribeRequest{Id: "a"}, []string{"InvalidArgument feed_request_invalid"}},
		"long label":      {&feedpb.SubscribeRequest{Labels: map[string]string{"of": strings.Repeat("x", 1000)}}, []string{"InvalidArgument feed_request_invalid"}},
		"block":           {&feedpb.SubscribeRequest{Slow: "block"}, []string{"InvalidArgument feed_request_invalid"}},
		"no policy":       {&feedpb.SubscribeRequest{Slow: "never"}, []string{"InvalidArgument feed_request_invalid"}},
		"another epoch":   {&feedpb.SubscribeRequest{After: "e0-3"}, []string{"open e1-0 spill", "gap e0-3 e1-0 epoch_changed", `e1-1 job.made {"n":1}`}},
		"strict":          {&feedpb.SubscribeRequest{After: "e0-3", Strict: true}, []string{"NotFound cursor_lost"}},
		"lost id":         {&feedpb.SubscribeRequest{After: id[:len(id)-12] + "000000000000"}, []string{"NotFound cursor_lost"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := b.subscribe(tt.in)
			s.expect(tt.want...)
			s.cancel()
		})
	}
	live := b.subscribe(&feedpb.SubscribeRequest{})
	live.expect("open e1-4 spill")
	b.publish("a", "job.moved")
	live.expect(`e1-5 job.moved {"n":5}`)
}

func TestOfWhatIsNotThere(t *testing.T) {
	b := open(t, setup{hub: feed.Config{Known: func(context.Context, string, string) error {
		return fault.New(fault.NotFound, "there is no such job").WithCode("job_not_found")
	}}})
	b.subscribe(&feedpb.SubscribeRequest{Kind: "job", Id: "a"}).expect("NotFound job_not_found")
	b.publish("a", "job.made")
	b.subscribe(&feedpb.SubscribeRequest{Kind: "job", Id: "a", After: "earliest"}).expect("open e1-0 spill", `e1-1 job.made {"n":1}`)
}

func TestEnd(t *testing.T) {
	b := open(t, setup{})
	b.publish("a", "job.made")
	s := b.subscribe(&feedpb.SubscribeRequest{Kind: "job", Id: "a", After: "earliest"})
	s.expect("open e1-0 spill", `e1-1 job.made {"n":1}`)
	b.publish("a", "job.done")
	s.expect(`e1-2 job.done {"n":2}`, "end e1-2", "OK")
	if got := s.lastCursor(); got != "e1-2" {
		t.Errorf("the last cursor is %q", got)
	}
	b.subscribe(&feedpb.SubscribeRequest{Kind: "job", Id: "a", After: "e1-2"}).expect("OK") // nothing follows
}

func TestGapAfterRetention(t *testing.T) {
	b := open(t, setup{keep: 3})
	for range 8 {
		b.publish("a", "job.moved")
	}
	b.subscribe(&feedpb.SubscribeRequest{After: "e1-2"}).expect("open e1-5 spill", "gap e1-2 e1-5 expired", `e1-6 job.moved {"n":6}`)
	b.subscribe(&feedpb.SubscribeRequest{After: "e1-2", Strict: true}).expect("NotFound cursor_lost")
}

func TestWhoMay(t *testing.T) {
	b := open(t, setup{hub: feed.Config{MaxPerTenant: 1}})
	b.subscribeAs("none", &feedpb.SubscribeRequest{}).expect("PermissionDenied permission_missing")
	c, err := b.client.Subscribe(t.Context(), &feedpb.SubscribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	(&stream{c, t, nil}).expect("Unauthenticated credential_missing")
	b.subscribe(&feedpb.SubscribeRequest{}).expect("open e1-0 spill")
	b.subscribe(&feedpb.SubscribeRequest{}).expect("ResourceExhausted streams_per_tenant")
}

func TestPings(t *testing.T) {
	b := open(t, setup{grpc: Config{Ping: 10 * time.Millisecond}})
	b.subscribe(&feedpb.SubscribeRequest{}).expect("open e1-0 spill", "ping", "ping")
}

func TestStreamsEndWithTheirCredentials(t *testing.T) {
	b := open(t, setup{expires: time.Now().Add(500 * time.Millisecond)})
	b.subscribe(&feedpb.SubscribeRequest{}).expect("open e1-0 spill", "Unauthenticated credential_expired")
	var revoked atomic.Bool
	b = open(t, setup{grpc: Config{Ping: 10 * time.Millisecond, Recheck: time.Millisecond}, recheck: func(context.Context) error {
		if !revoked.Load() {
			return errors.New("the directory is away, which ends no stream")
		}
		return fault.New(fault.Unauthenticated, "revoked").WithCode("api_key_revoked")
	}})
	s := b.subscribe(&feedpb.SubscribeRequest{})
	s.expect("open e1-0 spill", "ping")
	revoked.Store(true)
	for got := s.next(); got != "Unauthenticated credential_invalid"; got = s.next() {
		if got != "ping" {
			t.Fatalf("got %s", got)
		}
	}
}

func TestDrain(t *testing.T) {
	b := open(t, setup{})
	b.publish("a", "job.made")
	s := b.subscribe(&feedpb.SubscribeRequest{After: "earliest"})
	s.expect("open e1-0 spill", `e1-1 job.made {"n":1}`)
	if err := b.hub.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	s.expect("Unavailable draining")
	if got := s.lastCursor(); got != "e1-1" {
		t.Errorf("the last cursor is %q", got)
	}
	b.subscribe(&feedpb.SubscribeRequest{}).expect("Unavailable draining")
}

// coding notes how the server has compressed what it sent.
type coding struct{ used chan string }

func (coding) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (coding) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (coding) HandleConn(context.Context, stats.ConnStats)                       {}
func (c coding) HandleRPC(_ context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		c.used <- h.Compression
	}
}

func TestNothingCompressesAStream(t *testing.T) {
	c := coding{make(chan string, 1)}
	b := open(t, setup{dial: []grpc.DialOption{grpc.WithStatsHandler(c)}})
	b.subscribe(&feedpb.SubscribeRequest{}, grpc.UseCompressor(gzip.Name)).expect("open e1-0 spill")
	if got := <-c.used; got != "" && got != "identity" {
		t.Errorf("the stream is compressed with %q", got)
	}
}

func gauge(t *testing.T, r *prometheus.Registry, transport string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sluice_feed_connections" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[1].GetValue() == transport {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}
