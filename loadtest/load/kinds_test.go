package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/tensor"
)

// closed runs a closed loop over connections of a kind for a moment.
func closed(t *testing.T, l Load, conns ...Conn) *Result {
	t.Helper()
	p := NewPool(conns...)
	t.Cleanup(p.Close)
	return p.Closed(t.Context(), l, 50*time.Millisecond)
}

type doubling struct {
	oippb.UnimplementedGRPCInferenceServiceServer
	calls atomic.Int64
}

func (d *doubling) ModelInfer(_ context.Context, r *oippb.ModelInferRequest) (*oippb.ModelInferResponse, error) {
	switch d.calls.Add(1) % 3 {
	case 1:
		return nil, status.Error(codes.Unavailable, "Exceeds maximum queue size")
	case 2:
		return nil, status.Error(codes.ResourceExhausted, "too many")
	}
	in := r.GetInputs()[0]
	return &oippb.ModelInferResponse{Outputs: []*oippb.ModelInferResponse_InferOutputTensor{{Name: "y", Datatype: in.GetDatatype(), Shape: in.GetShape()}},
		RawOutputContents: [][]byte{r.GetRawInputContents()[0]}}, nil
}

func TestGRPCSpeaksTheProtocol(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	oippb.RegisterGRPCInferenceServiceServer(srv, &doubling{})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() { srv.Stop(); <-done })

	in := tensor.Tensor{Name: "x", Datatype: tensor.Int64, Shape: tensor.Shape{1}, Data: []byte("12345678")}
	wire, err := InferMessage("m", []tensor.Tensor{in})
	if err != nil {
		t.Fatal(err)
	}
	check := func(a Answer) error {
		out, err := MessageOutputs(a)
		if err != nil || len(out) != 1 || string(out[0].Data) != "12345678" {
			return fmt.Errorf("%v, %w", out, err)
		}
		return nil
	}
	conns, err := GRPC(ln.Addr().String(), 2, "")
	if err != nil {
		t.Fatal(err)
	}
	r := closed(t, Load{Requests: []*Request{{Wire: wire, Check: check}}, CheckEvery: 1}, conns...)
	if r.OK == 0 || r.Failed > 0 || r.Checked != r.OK || r.Refused < r.OK || r.Refused > 2*r.OK+4 {
		t.Errorf("%+v, %v", counts(r), r.Err)
	}

	srv.Stop() // what the client itself says of a server that is gone is no refusal
	conns, err = GRPC(ln.Addr().String(), 1, "")
	if err != nil {
		t.Fatal(err)
	}
	if r := closed(t, Load{Requests: []*Request{{Wire: wire}}}, conns...); r.Refused > 0 || r.Failed == 0 {
		t.Errorf("without a server: %+v, %v", counts(r), r.Err)
	}
}

func TestEventsAreReadToTheEnd(t *testing.T) {
	answers := []string{
		"event: start\ndata: {}\n\nevent: output\ndata: {}\n\nevent: end\ndata: {}\n\n",
		"data: {\"error\":\"no\"}\n\n",
		"event: start\ndata: {}\n\nevent: error\ndata: {\"code\":\"x\"}\n\n",
		"",
	}
	var n atomic.Int64
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, answers[int(n.Add(1)-1)%len(answers)])
		w.(http.Flusher).Flush()
	}))
	conns, err := Events(addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	check := func(a Answer) error {
		if string(a.Body) != "3" || a.First.IsZero() {
			return fmt.Errorf("%s events", a.Body)
		}
		return nil
	}
	r := closed(t, Load{Requests: []*Request{{Wire: Post(addr, "/", "", []byte("x")), Check: check}}, CheckEvery: 1}, conns...)
	if r.OK == 0 || r.First.Count() != uint64(r.OK) || r.Failed < 3*(r.OK-1) || r.Refused > 0 {
		t.Errorf("%+v, %v", counts(r), r.Err)
	}
}

func TestAnswersInChunksAreWhole(t *testing.T) {
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, strings.Repeat("x", 3000))
			w.(http.Flusher).Flush()
		}
	}))
	check := func(a Answer) error {
		if len(a.Body) != 9000 {
			return fmt.Errorf("%d bytes", len(a.Body))
		}
		return nil
	}
	r := dial(t, addr, 2).Closed(t.Context(), Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil), Check: check}}, CheckEvery: 1}, 50*time.Millisecond)
	if r.OK < 2 || r.Failed > 0 || r.Redialled > 0 {
		t.Errorf("%+v, %d dialled again, %v", counts(r), r.Redialled, r.Err)
	}
}

func TestSlowClientsTakeTheirTime(t *testing.T) {
	addr := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	request := &Request{Wire: Post(addr, "/", "", make([]byte, 100))}
	conns, err := Slow(addr, 1, 50, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	p := NewPool(conns...)
	defer p.Close()
	least, begin := time.Duration((len(request.Wire)+49)/50)*5*time.Millisecond, time.Now()
	if a, err := p.One(request); err != nil || a.Status != 200 || time.Since(begin) < least {
		t.Errorf("%d after %s, %v", a.Status, time.Since(begin), err)
	}
	for _, bad := range []struct {
		bytes int
		pause time.Duration
	}{{0, time.Second}, {1, 0}} {
		if _, err := Slow(addr, 1, bad.bytes, bad.pause); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// A server may go, if it says so before or takes no connection: nothing is lost.
func TestABalancerAvoidsServersThatAreNotReady(t *testing.T) {
	var served [2]atomic.Int64
	var servers [2]*httptest.Server
	var addrs []string
	for i := range servers {
		servers[i] = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served[i].Add(1) }))
		t.Cleanup(servers[i].Close)
		addrs = append(addrs, servers[i].Listener.Addr().String())
	}
	b, err := NewBalancer(addrs...)
	if err != nil {
		t.Fatal(err)
	}
	l := Load{Requests: []*Request{{Wire: Post(addrs[0], "/", "", nil)}}}
	if r := closed(t, l, b.Conns(4)...); r.Failed > 0 || served[0].Load() == 0 || served[1].Load() == 0 {
		t.Errorf("%+v, served %d and %d, %v", counts(r), served[0].Load(), served[1].Load(), r.Err)
	}
	b.SetReady(0, false)
	before := served[0].Load()
	if r := closed(t, l, b.Conns(4)...); r.Failed > 0 || served[0].Load() != before {
		t.Errorf("%+v, and %d of them at a server that is not ready, %v", counts(r), served[0].Load()-before, r.Err)
	}
	b.SetReady(0, true)
	servers[0].Close()
	if r := closed(t, l, b.Conns(4)...); r.Failed > 0 || r.OK == 0 {
		t.Errorf("with one server gone: %+v, %v", counts(r), r.Err)
	}
	if _, err := NewBalancer("example.com:80"); err == nil {
		t.Error("a server elsewhere was taken")
	}
}

func TestRefusedRequestsAreRetriedAndEverySampleIsSeen(t *testing.T) {
	var n atomic.Int64
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%3 != 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	var mu sync.Mutex
	seen := map[Outcome]int{}
	l := Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil)}}, Retries: 1, Seen: func(s Sample) {
		mu.Lock()
		defer mu.Unlock()
		seen[s.Outcome]++
	}}
	r := dial(t, addr, 1).Closed(t.Context(), l, 50*time.Millisecond)
	// Of three answers two are refusals: each request has two of them, in turns.
	if r.OK == 0 || r.Retried == 0 || seen[OK] != r.OK || seen[Refused] != r.Refused || seen[Failed] != 0 || r.Failed != 0 {
		t.Errorf("%+v, %d retried, seen %v", counts(r), r.Retried, seen)
	}
}
