package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/inference/tensor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeOIP doubles every float of its one input. It speaks the protocol by
// encoding/json, so that it agrees with Infer and Outputs only where both are
// right.
type fakeOIP struct {
	busy    atomic.Int64
	refuse  func(busy int64) bool
	delay   time.Duration
	corrupt bool
	served  atomic.Int64
}

func (f *fakeOIP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	busy := f.busy.Add(1)
	defer f.busy.Add(-1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.refuse != nil && f.refuse(busy) {
		http.Error(w, `{"error":"Exceeds maximum queue size"}`, http.StatusServiceUnavailable)
		return
	}
	time.Sleep(f.delay)
	var req struct {
		Inputs []struct {
			Name, Datatype string
			Shape          []int64
			Data           []float32
			Parameters     map[string]int
		}
	}
	head, blob := body, []byte(nil)
	if v := r.Header.Get("Inference-Header-Content-Length"); v != "" {
		n, _ := strconv.Atoi(v)
		head, blob = body[:n], body[n:]
	}
	if err := json.Unmarshal(head, &req); err != nil || len(req.Inputs) != 1 || r.URL.Path != "/v2/models/double/infer" {
		http.Error(w, fmt.Sprintf("path %s, %v", r.URL.Path, err), http.StatusBadRequest)
		return
	}
	in := req.Inputs[0]
	values := in.Data
	for ; len(blob) >= 4; blob = blob[4:] {
		values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(blob)))
	}
	for i := range values {
		values[i] *= 2
		if f.corrupt {
			values[i]++
		}
	}
	f.served.Add(1)
	out := map[string]any{"name": "y", "datatype": in.Datatype, "shape": in.Shape}
	if in.Data != nil {
		out["data"] = values
		answer, _ := json.Marshal(map[string]any{"outputs": []any{out}})
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
		return
	}
	out["parameters"] = map[string]int{"binary_data_size": 4 * len(values)}
	answer, _ := json.Marshal(map[string]any{"outputs": []any{out}})
	w.Header().Set("Inference-Header-Content-Length", strconv.Itoa(len(answer)))
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)+4*len(values)))
	_, _ = w.Write(append(answer, floats(values...)...))
}

func floats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// serve starts the handler and returns its address.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func dial(t *testing.T, addr string, n int) *Pool {
	t.Helper()
	p, err := Dial(addr, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// double returns a request for n floats that start at first.
func double(t *testing.T, addr string, e Encoding, first float32, n int) *Request {
	t.Helper()
	var in, want []float32
	for i := range n {
		in = append(in, first+float32(i))
		want = append(want, 2*in[i])
	}
	wire, err := Infer(addr, "double", []tensor.Tensor{{
		Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{1, int64(n)}, Data: floats(in...),
	}}, e, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &Request{Wire: wire, Check: func(a Answer) error {
		outputs, err := Outputs(a)
		if err != nil {
			return err
		}
		if len(outputs) != 1 || outputs[0].Name != "y" || string(outputs[0].Data) != string(floats(want...)) {
			return fmt.Errorf("got %v", outputs)
		}
		return nil
	}}
}

func TestClosedLoopCountsAndChecksEveryAnswer(t *testing.T) {
	for _, e := range []Encoding{Binary, JSON} {
		f := &fakeOIP{}
		addr := serve(t, f)
		l := Load{CheckEvery: 1, Requests: []*Request{double(t, addr, e, 1, 3), double(t, addr, e, 100, 900), double(t, addr, e, -7, 1)}}
		r := dial(t, addr, 4).Closed(t.Context(), l, 200*time.Millisecond)
		if r.Err != nil || r.OK == 0 || r.OK != int(f.served.Load()) || r.Checked != r.OK || r.Good != r.OK || r.Due != r.OK {
			t.Errorf("encoding %d: served %d, result %+v", e, f.served.Load(), counts(r))
		}
		if r.Latency.Count() != uint64(r.OK) || r.Latency.Quantile(0.5) <= 0 {
			t.Errorf("encoding %d: %d latencies with median %s for %d answers", e, r.Latency.Count(), r.Latency.Quantile(0.5), r.OK)
		}
	}
}

func TestWrongAnswersAreFound(t *testing.T) {
	addr := serve(t, &fakeOIP{corrupt: true})
	r := dial(t, addr, 1).Closed(t.Context(), Load{CheckEvery: 1, Requests: []*Request{double(t, addr, Binary, 1, 3)}}, 20*time.Millisecond)
	if r.OK != 0 || r.Failed == 0 || r.Err == nil {
		t.Errorf("a server that answers wrongly: %+v", counts(r))
	}
}

// A server that stalls must show the stall in the latency of every request
// that was due meanwhile.
func TestOpenLoopCountsFromTheDueTime(t *testing.T) {
	var stalled atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if stalled.CompareAndSwap(false, true) {
			time.Sleep(400 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "ok")
	})
	addr := serve(t, h)
	r, err := dial(t, addr, 100).Open(t.Context(), Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil)}}}, evenly(100), 300*time.Millisecond)
	if err != nil || r.OK != r.Due || r.Failed != 0 || r.Due < 25 {
		t.Fatalf("100 connections: %v, %+v", err, counts(r))
	}
	if r.Latency.Quantile(0.5) > 100*time.Millisecond || r.Latency.Max() < 400*time.Millisecond {
		t.Errorf("100 connections: median %s, max %s; only the stalled request may be slow", r.Latency.Quantile(0.5), r.Latency.Max())
	}
	// With one connection the other requests wait behind the stalled one.
	stalled.Store(false)
	r, err = dial(t, addr, 1).Open(t.Context(), Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil)}}}, evenly(100), 300*time.Millisecond)
	if err != nil || r.Due != r.OK+r.Unsent || r.OK != 2 {
		t.Fatalf("one connection: %v, %+v; want the stalled request, one behind it, the others unsent", err, counts(r))
	}
	if behind := r.Latency.Quantile(0.25); behind < 300*time.Millisecond {
		t.Errorf("the request behind the stalled one took %s: its wait must count", behind)
	}
	if late := r.Lag.Max(); late > 150*time.Millisecond || r.Lag.Count() != uint64(r.Due) {
		t.Errorf("%d requests of %d were late by up to %s: the wait for a connection is the server's, not the generator's", r.Lag.Count(), r.Due, late)
	}
}

// When requests are due depends on the rate alone: neither a server that stalls nor a generator that
// is late moves what comes after, and every sample says so, of what was not sent, too.
func TestDueTimesAreThoseOfTheRate(t *testing.T) {
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(30 * time.Millisecond)
		_, _ = io.WriteString(w, "ok")
	}))
	var mu sync.Mutex
	var due []time.Time
	seen := func(s Sample) {
		mu.Lock()
		defer mu.Unlock()
		due = append(due, s.Due)
	}
	r, err := dial(t, addr, 2).Open(t.Context(), Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil)}}, Seen: seen}, evenly(200), 300*time.Millisecond)
	if err != nil || r.Due != 59 || len(due) != r.Due || r.Unsent == 0 {
		t.Fatalf("%v, %+v, %d samples; want 59 due, every 5 ms before 300 ms are over, of which some found no connection", err, counts(r), len(due))
	}
	slices.SortFunc(due, time.Time.Compare)
	for i := range due {
		if at := due[i].Sub(due[0]); at != time.Duration(i)*5*time.Millisecond {
			t.Fatalf("request %d was due %s after the first", i+1, at)
		}
	}
}

func TestOverloadIsCountedAsRefusals(t *testing.T) {
	f := &fakeOIP{delay: 20 * time.Millisecond, refuse: func(busy int64) bool { return busy > 2 }}
	addr := serve(t, f)
	l := Load{SLO: 5 * time.Second, Ramp: 100 * time.Millisecond, Requests: []*Request{double(t, addr, Binary, 1, 3)}}
	r, err := dial(t, addr, 32).Open(t.Context(), l, Poisson(400, 1), 500*time.Millisecond) // capacity 100/s
	if err != nil || r.Err != nil || r.Refused == 0 || r.OK == 0 || r.Due != r.OK+r.Refused+r.Unsent {
		t.Fatalf("%v, %+v, %v", err, counts(r), r.Err)
	}
	if r.Good > r.OK || r.Window != 400*time.Millisecond || r.Goodput() > 2*100 {
		t.Errorf("goodput %.0f/s of %+v over %s; the server can do 100/s", r.Goodput(), counts(r), r.Window)
	}
	if uint64(r.Refused) != r.Refusal.Count() {
		t.Errorf("%d refusals, %d latencies of refusals", r.Refused, r.Refusal.Count())
	}
}

func TestBackoffSparesARefusingServer(t *testing.T) {
	f := &fakeOIP{refuse: func(int64) bool { return true }}
	addr := serve(t, f)
	l := Load{Backoff: 50 * time.Millisecond, Requests: []*Request{double(t, addr, Binary, 1, 3)}}
	if r := dial(t, addr, 2).Closed(t.Context(), l, 200*time.Millisecond); r.Refused < 2 || r.Refused > 2*5 || r.OK != 0 {
		t.Errorf("%+v: two connections fit at most ten refusals and pauses of 50 ms into 200 ms", counts(r))
	}
}

func TestPoissonHasItsRate(t *testing.T) {
	next, sum := Poisson(1000, 7), time.Duration(0)
	for range 100_000 {
		sum += next()
	}
	if got := sum.Seconds(); got < 99 || got > 101 {
		t.Errorf("100,000 arrivals at 1000/s took %.1f s", got)
	}
}

func TestCancelEndsARun(t *testing.T) {
	release := make(chan struct{})
	addr := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	l := Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil)}}}
	r := dial(t, addr, 2).Closed(ctx, l, time.Minute)
	if took := time.Since(start); took > 5*time.Second || r.OK != 0 || !errors.Is(r.Err, os.ErrDeadlineExceeded) {
		t.Errorf("took %s: %+v, %v", took, counts(r), r.Err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dial(t, addr, 2).Open(ctx, l, evenly(1000), time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open loop: %v", err)
	}
}

func TestOnlyLoopbackIsATarget(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:80", "0.0.0.0:80", "example.com:80", "localhost:80", "127.0.0.1", "[2001:db8::1]:80", ""} {
		if p, err := Dial(addr, 1); err == nil || p != nil {
			t.Errorf("Dial(%q) must be refused before a packet leaves", addr)
		}
	}
}

// The connection must survive every way in which an answer can be cut, and
// refuse what it cannot count on.
func TestAnswers(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nInference-Header-Content-Length: 2\r\n\r\nhello"
	tests := []struct {
		name, wire string
		want       string // body, or part of the error after "error: "
	}{
		{"plain", good, "hello"},
		{"no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		{"closing", "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nhi", "hi"},
		{"large", "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300_000), strings.Repeat("x", 300_000)},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"},
		{"chunks cut short", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\nhel", "error: unexpected EOF"},
		{"chunks and a lying inference header", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nInference-Header-Content-Length: 3\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "error: inference header"},
		{"chunks and no blank line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nsurplus\r\n\r\n", "error: expected a blank line"},
		{"no length", "HTTP/1.1 200 OK\r\n\r\nhello", "error: neither Content-Length nor chunks"},
		{"not HTTP", "SSH-2.0-OpenSSH_9.6 and more\r\n\r\n", "error: not an HTTP/1.1 answer"},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "error: malformed field"},
		{"huge length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "error: malformed field"},
		{"lying inference header", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nInference-Header-Content-Length: 3\r\n\r\nhi", "error: inference header"},
		{"two answers to one request", good + good, "error: follow the answer"},
		{"short body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhello", "error: after 5 of 9"},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 20_000), "error: longer than"},
	}
	for _, tt := range tests {
		for _, step := range []int{len(tt.wire), 1 + len(tt.wire)/7} {
			t.Run(fmt.Sprintf("%s in steps of %d", tt.name, step), func(t *testing.T) {
				a, err := answerOf(t, tt.wire, step)
				if want, isError := strings.CutPrefix(tt.want, "error: "); isError {
					if err == nil || !strings.Contains(err.Error(), want) {
						if tt.name != "two answers to one request" || step == len(tt.wire) {
							t.Errorf("got %v, want an error with %q", err, want)
						}
					}
					return
				}
				if err != nil || string(a.Body) != tt.want || a.Status != 200 {
					t.Errorf("got status %d, %d bytes, %v", a.Status, len(a.Body), err)
				}
			})
		}
	}
}

func TestChunkedAnswersHaveTimings(t *testing.T) {
	const wire = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer-Timing: queue;dur=1, total;dur=2\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
	a, err := answerOf(t, wire, len(wire))
	if want := (Timing{Queue: time.Millisecond, Total: 2 * time.Millisecond}); err != nil || a.Timing != want {
		t.Errorf("got %+v, %v, want %+v", a.Timing, err, want)
	}
}

// answerOf returns what a connection reads from a server that writes the bytes
// in steps and closes.
func answerOf(t *testing.T, wire string, step int) (Answer, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		for i := 0; i < len(wire); i += step {
			if _, err := io.WriteString(c, wire[i:min(i+step, len(wire))]); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	defer func() { ln.Close(); <-done }()
	p := dial(t, ln.Addr().String(), 1)
	defer p.Close()
	return p.One(&Request{Wire: Post(ln.Addr().String(), "/", "", nil)})
}

func TestARefusedAnswerThatClosesIsDialledAgain(t *testing.T) {
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	r := dial(t, addr, 2).Closed(t.Context(), Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil)}}}, 50*time.Millisecond)
	if r.Failed != 0 || r.Refused < 4 {
		t.Errorf("%+v, %v", counts(r), r.Err)
	}
}

// A server closes connections that idle; one that answers no request at all
// must not be asked forever.
func TestAConnectionClosedWhileIdleIsDialledAgain(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") }))
	srv.Config.IdleTimeout = 20 * time.Millisecond
	srv.Start()
	t.Cleanup(srv.Close)
	addr := srv.Listener.Addr().String()
	p, l := dial(t, addr, 2), Load{Requests: []*Request{{Wire: Post(addr, "/", "", nil)}}}
	for i := range 3 {
		if i > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		r := p.Closed(t.Context(), l, 300*time.Millisecond)
		if r.Failed != 0 || r.OK == 0 || i > 0 && r.Redialled < 2 { // a busy machine may leave one idle in between, too
			t.Errorf("run %d: %+v, %d dialled again, %v", i, counts(r), r.Redialled, r.Err)
		}
	}
	hangUp := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	r := dial(t, hangUp, 1).Closed(t.Context(), Load{Requests: []*Request{{Wire: Post(hangUp, "/", "", nil)}}}, 5*time.Second)
	if r.OK != 0 || r.Failed != maxFailures {
		t.Errorf("a server that always hangs up: %+v", counts(r))
	}
}

func TestADeadServerIsNotHammered(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	p := dial(t, srv.Listener.Addr().String(), 2)
	srv.Close()
	r := p.Closed(t.Context(), Load{Requests: []*Request{{Wire: Post("127.0.0.1:1", "/", "", nil)}}}, 10*time.Second)
	if r.Failed != 2*maxFailures || r.Duration > 5*time.Second {
		t.Errorf("%d failures in %s", r.Failed, r.Duration)
	}
}

func TestARequestAllocatesNothing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	// A server that allocates nothing either: allocations are process-wide.
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer-Timing: queue;dur=1.250, total;dur=3.125\r\nContent-Length: 2\r\n\r\nhi")
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}()
	p := dial(t, ln.Addr().String(), 1)
	w := newWorker(p.conns[0], Load{Requests: []*Request{{Wire: Post(ln.Addr().String(), "/", "", nil)}}}, 0)
	if n := testing.AllocsPerRun(200, func() { w.send(time.Now()) }); n != 0 || w.res.Failed > 0 {
		t.Errorf("%v allocations per request, %v", n, w.res.Err)
	}
}

func TestOutputsRefusesLyingAnswers(t *testing.T) {
	for _, a := range []Answer{
		{Body: []byte(`{"outputs":[{"name":"y","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}1234`), HeaderLength: 89},
		{Body: []byte(`{"outputs":[{"name":"y","shape":[2],"datatype":"FP32","data":[1]}]}`), HeaderLength: -1},
		{Body: []byte(`{"outputs":[{"name":"y","shape":[2],"datatype":"FP33","data":[1,2]}]}`), HeaderLength: -1},
		{Body: []byte(`{"outputs":[]}x`), HeaderLength: 14},
		{Body: []byte(`{"outputs":`), HeaderLength: -1},
	} {
		if got, err := Outputs(a); err == nil {
			t.Errorf("%s: got %v, want an error", a.Body, got)
		}
	}
}

func TestInferSpellsTheProtocol(t *testing.T) {
	in := []tensor.Tensor{{Name: `a"b`, Datatype: tensor.Int64, Shape: tensor.Shape{1, 2}, Data: []byte("\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")}}
	for _, tt := range []struct {
		e       Encoding
		timeout int64
		want    string
	}{
		{JSON, 0, `{"inputs":[{"name":"a\"b","shape":[1,2],"datatype":"INT64","data":[1,-1]}]}`},
		{JSON, 9, `{"inputs":[{"name":"a\"b","shape":[1,2],"datatype":"INT64","data":[1,-1]}],"parameters":{"timeout":9}}`},
		{Binary, 9, `{"inputs":[{"name":"a\"b","shape":[1,2],"datatype":"INT64","parameters":{"binary_data_size":16}}],"parameters":{"binary_data_output":true,"timeout":9}}` + string(in[0].Data)},
	} {
		wire, err := Infer("127.0.0.1:8000", "m", in, tt.e, tt.timeout)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(wire))))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || string(body) != tt.want || req.URL.Path != "/v2/models/m/infer" || string(Body(wire)) != tt.want {
			t.Errorf("%v: %s\n got %q\nwant %q", err, req.URL.Path, body, tt.want)
		}
		if n := req.Header.Get("Inference-Header-Content-Length"); tt.e == Binary && n != strconv.Itoa(len(tt.want)-16) {
			t.Errorf("inference header %q for %q", n, tt.want)
		}
	}
}

type tally struct{ Due, Unsent, OK, Good, Refused, Failed, Checked int }

func counts(r *Result) tally {
	if r == nil {
		return tally{}
	}
	return tally{r.Due, r.Unsent, r.OK, r.Good, r.Refused, r.Failed, r.Checked}
}

// evenly spaces requests evenly at a rate per second.
func evenly(rate float64) Arrivals {
	gap := time.Duration(float64(time.Second) / rate)
	return func() time.Duration { return gap }
}
