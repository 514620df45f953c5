package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
	"sluice/internal/inference/stream/streamtest"
	"sluice/internal/platform/access"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedhttp"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// streams is the API of the test models behind a plain HTTP server.
type streams struct {
	*API
	t      testing.TB
	url    string
	memory *budget.Budget
	bed    *streamtest.Bed
	hub    *feed.Hub

	revoked atomic.Bool // the credential of all
}

func newStreams(t testing.TB, cfg Config) *streams {
	t.Helper()
	bed := streamtest.New(t)
	models, err := stream.New(bed, stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := feed.NewHub(nil, feed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Live.Feeds = feedhttp.New(hub, feedhttp.Config{})
	s := &streams{t: t, bed: bed, hub: hub, memory: budget.New(1<<30, "memory")}
	s.API = New(models, s.memory, repo.New(memrepo.New(memrepo.Config{}), repo.Config{}), nil, nil, nil, cfg)
	mux := http.NewServeMux()
	serve := func(f func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			p := &access.Principal{Tenant: r.URL.Query().Get("tenant")}
			if p.Tenant == "" {
				p.Tenant = "t"
			}
			p.Recheck = func(context.Context) error {
				if s.revoked.Load() {
					return fault.New(fault.Unauthenticated, "revoked")
				}
				return nil
			}
			if err := f(w, r.WithContext(access.With(r.Context(), p))); err != nil {
				http.Error(w, fault.CodeOf(err), 400)
			}
		}
	}
	mux.HandleFunc("GET /models/{model}/stream", serve(func(w http.ResponseWriter, r *http.Request) error { return s.Socket(w, r, r.PathValue("model")) }))
	mux.HandleFunc("POST /models/{model}/predictions", serve(func(w http.ResponseWriter, r *http.Request) error {
		return s.narrate(w, r, "", r.PathValue("model"))
	}))
	mux.HandleFunc("GET /streams/{id}/events", serve(func(w http.ResponseWriter, r *http.Request) error { return s.Resume(w, r, r.PathValue("id")) }))
	server := httptest.NewServer(mux)
	s.url = server.URL
	t.Cleanup(func() {
		hub.Close()
		s.Close()
		server.Close()
		models.Close()
		if n := s.memory.Held(); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	})
	return s
}

// peer is a WebSocket of a test.
type peer struct {
	t testing.TB
	c *websocket.Conn
}

func (s *streams) dial(path string) *peer {
	s.t.Helper()
	c, resp, err := websocket.Dial(s.t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+path, &websocket.DialOptions{Subprotocols: []string{Subprotocol}})
	if err != nil {
		s.t.Fatalf("%v (%v)", err, resp)
	}
	s.t.Cleanup(func() { _ = c.CloseNow() })
	p := &peer{s.t, c}
	if open := p.next(); !strings.Contains(open, `"type":"open"`) {
		s.t.Fatalf("got %s", open)
	}
	return p
}

func (p *peer) send(text string) bool {
	return p.c.Write(p.t.Context(), websocket.MessageText, []byte(text)) == nil
}

func (p *peer) step(id string, x int64, parameters string) bool {
	if parameters != "" {
		parameters = `,"parameters":{` + parameters + `}`
	}
	return p.send(fmt.Sprintf(`{"type":"input","id":%q,"rows":[{"x":%d}],"outputs":[{"name":"y"}]%s}`, id, x, parameters))
}

// next returns the next message, or the code that the server closed with.
func (p *peer) next() string {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	_, b, err := p.c.Read(ctx)
	if err != nil {
		p.t.Log(err)
		return fmt.Sprintf("closed %d", websocket.CloseStatus(err))
	}
	return string(b)
}

// told is an answer in short: "id=y", with the step behind it and … if more
// follow, or "id!code".
func (p *peer) told() string {
	text := p.next()
	var f struct {
		outFrame
		Outputs []struct{ Data []int64 } `json:"outputs"`
	}
	if json.Unmarshal([]byte(text), &f) != nil {
		return text
	}
	if f.Error != nil {
		return f.ID + "!" + f.Error.Code
	}
	if len(f.Outputs) != 1 {
		return text
	}
	text = fmt.Sprintf("%s=%d", f.ID, f.Outputs[0].Data[0])
	if f.Step > 0 {
		text += fmt.Sprintf("/%d%s", f.Step, map[bool]string{true: "…", false: f.Ended}[f.More])
	}
	return text
}

func (p *peer) expect(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got := p.told(); got != w {
			p.t.Errorf("got %s, want %s", got, w)
		}
	}
}

func is(id string, y int64) string { return fmt.Sprintf("%s=%d", id, y) }

// Many clients send far ahead and get what a single thread would have computed, in
// order; some are cut off.
func TestSocketsEqualTheReference(t *testing.T) {
	s := newStreams(t, Config{Socket: SocketConfig{Window: 8}})
	var wg sync.WaitGroup
	for client := range 10 {
		p := s.dial("/models/roll/stream")
		wg.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(client)))
			inputs := make([]int64, 60)
			for i := range inputs {
				inputs[i] = random.Int64N(1000)
			}
			go func() {
				for i, x := range inputs {
					if !p.step(fmt.Sprint(i), x, "") {
						return
					}
				}
				p.send(`{"type":"end"}`)
			}()
			state := int64(0)
			for i, x := range inputs {
				if client%4 == 3 && i == 25 {
					_ = p.c.CloseNow()
					return
				}
				state = streamtest.Roll(state, x)
				p.expect(is(fmt.Sprint(i), state))
			}
			p.expect("closed 1000")
		})
	}
	wg.Wait()
}

func TestSocketErrorsAndGenerations(t *testing.T) {
	s := newStreams(t, Config{})
	p := s.dial("/models/roll/stream")
	one := streamtest.Roll(0, 1)
	for id, parameters := range map[string]string{"a": `"sequence_id":7,"sequence_start":true`} {
		p.step(id, 1, parameters)
	}
	p.step("b", 1, "")
	p.step("c", 1000, "") // fails
	p.step("d", 2, "")
	p.step("e", 2, `"sequence_id":7`)
	p.send(`{"type":"input","id":"f","rows":[{"z":1}]}`)
	p.step("g", 2, `"sequence_resume":true`)
	p.expect(is("a", one), is("b", one), "c!internal", "d!sequence_halted", is("e", streamtest.Roll(one, 2)), "f!sequence_halted", is("g", streamtest.Roll(one, 2)))
	p.send(`{"type":"input","id":"h","rows":[{"z":1}]}`)
	p.expect("h!rows_invalid")

	w := s.dial("/models/write/stream")
	w.step("a", 1, `"max_steps":3`)
	w.step("b", 1000, "")
	w.step("c", 2, `"max_steps":1`)
	y, ended := streamtest.Written(1, 3)
	w.expect(fmt.Sprintf("a=%d/1…", y[0]), fmt.Sprintf("a=%d/2…", y[1]), fmt.Sprintf("a=%d/3%s", y[2], ended), "b!internal")
	y, ended = streamtest.Written(2, 1)
	w.expect(fmt.Sprintf("c=%d/1%s", y[0], ended))

	plain := s.dial("/models/plain/stream")
	plain.send(`{"type":"input","rows":[{"x":5,"state":1},{"x":6,"state":2}],"outputs":[{"name":"y"}]}`)
	plain.expect(is("", streamtest.Roll(1, 5)))
}

func TestSocketCredit(t *testing.T) {
	s := newStreams(t, Config{Socket: SocketConfig{Window: 2, Ping: time.Millisecond, Idle: time.Hour}})
	p := s.dial("/models/write/stream?credit=2")
	p.step("a", 1, `"max_steps":4`)
	y, _ := streamtest.Written(1, 4)
	p.expect(fmt.Sprintf("a=%d/1…", y[0]), fmt.Sprintf("a=%d/2…", y[1]))
	got := make(chan string, 1)
	go func() { got <- p.told() }()
	select {
	case text := <-got:
		t.Errorf("without credit came %s", text)
	case <-time.After(50 * time.Millisecond):
	}
	p.send(`{"type":"credit","messages":2}`)
	if text := <-got; text != fmt.Sprintf("a=%d/3…", y[2]) {
		t.Errorf("got %s", text)
	}
	p.expect(fmt.Sprintf("a=%d/4max_steps", y[3]))
	for range 3 {
		p.step("b", 1, "")
	}
	p.expect("closed 1008")
}

func TestSocketLimitsAndCloseCodes(t *testing.T) {
	s := newStreams(t, Config{Socket: SocketConfig{MaxPerTenant: 3, MaxFrame: 1000, Ping: time.Millisecond, Idle: 20 * time.Millisecond}})
	for _, bad := range []string{`{}`, `[]`, `{"type":"input"}x`, `{"type":"input","more":1}`, `{"type":"credit","messages":1}`, `{"type":"end","id":"x"}x`, `{"type":"input","client_ref":"a"}`} {
		p := s.dial("/models/roll/stream")
		p.send(bad)
		p.expect("closed 1008")
	}
	p := s.dial("/models/roll/stream")
	p.send(strings.Repeat(" ", 2000))
	p.expect("closed 1009")
	s.dial("/models/roll/stream").expect("closed 4011")

	refusals := map[string]string{
		"/models/none/stream": "model_not_found", "/models/roll/stream?credit=x": "credit_invalid",
	}
	for path, want := range refusals {
		_, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+path, &websocket.DialOptions{Subprotocols: []string{Subprotocol}})
		if err == nil || resp == nil || resp.StatusCode != 400 {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	s.cfg.Socket.Idle = time.Hour
	for range 3 {
		s.dial("/models/roll/stream?tenant=many")
	}
	if _, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+"/models/roll/stream?tenant=many", &websocket.DialOptions{Subprotocols: []string{Subprotocol}}); err == nil {
		t.Error("one stream too many was opened")
	}
	left := s.dial("/models/roll/stream")
	left.step("a", 1, "")
	left.expect(is("a", streamtest.Roll(0, 1)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(ctx) }()
	left.expect("closed 1012")
}

// A credential that is revoked ends the stream.
func TestSocketRecheck(t *testing.T) {
	s := newStreams(t, Config{Socket: SocketConfig{Ping: time.Millisecond}})
	s.revoked.Store(true)
	s.dial("/models/roll/stream").expect("closed 4001")
}

// Behind its last input a client goes on granting credit, and is heard.
func TestSocketCreditBehindTheEnd(t *testing.T) {
	s := newStreams(t, Config{Socket: SocketConfig{Idle: time.Hour}})
	y, _ := streamtest.Written(1, 3)
	answers := []string{fmt.Sprintf("a=%d/1…", y[0]), fmt.Sprintf("a=%d/2…", y[1]), fmt.Sprintf("a=%d/3max_steps", y[2])}
	p := s.dial("/models/write/stream?credit=1")
	p.step("a", 1, `"max_steps":3`)
	p.send(`{"type":"end"}`)
	p.expect(answers[0])
	p.send(`{"type":"credit","messages":2}`)
	p.expect(answers[1], answers[2], "closed 1000")

	more := s.dial("/models/write/stream?credit=0")
	more.step("a", 1, `"max_steps":3`)
	more.send(`{"type":"end"}`)
	more.step("b", 1, "")
	more.expect("closed 1008")

	stopped := s.dial("/models/write/stream?credit=1")
	stopped.step("a", 1, `"max_steps":3`)
	stopped.expect(answers[0])
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(ctx) }()
	<-s.stopping
	stopped.step("b", 1, `"max_steps":1`) // it cannot know yet
	stopped.send(`{"type":"credit","messages":9}`)
	stopped.expect(answers[1], answers[2])
	for got := stopped.told(); got != "closed 1012"; got = stopped.told() {
		if !strings.HasPrefix(got, "b=") { // it may have come before the stop was seen
			t.Fatalf("got %s", got)
		}
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// A credential that is revoked while a client owes credit for its last answers
// ends the stream all the same.
func TestSocketRecheckBehindTheEnd(t *testing.T) {
	s := newStreams(t, Config{Socket: SocketConfig{Ping: time.Millisecond, Idle: time.Hour}})
	p := s.dial("/models/write/stream?credit=1")
	p.step("a", 1, `"max_steps":2`)
	p.send(`{"type":"end"}`)
	y, _ := streamtest.Written(1, 1)
	p.expect(fmt.Sprintf("a=%d/1…", y[0]))
	s.revoked.Store(true)
	p.expect("closed 4001")
}

// Inputs behind the first count as requests do.
func TestSocketInputsTakeQuota(t *testing.T) {
	var left atomic.Int64
	left.Store(1)
	s := newStreams(t, Config{Socket: SocketConfig{Take: func(context.Context, *access.Principal) error {
		if left.Add(-1) < 0 {
			return fault.New(fault.Exhausted, "used up").WithCode("rate_limited")
		}
		return nil
	}}})
	p := s.dial("/models/plain/stream")
	for _, id := range []string{"a", "b", "c"} {
		p.send(`{"type":"input","id":"` + id + `","rows":[{"x":5,"state":1}],"outputs":[{"name":"y"}]}`)
	}
	y := streamtest.Roll(1, 5)
	p.expect(is("a", y), is("b", y), "c!rate_limited")
}

func TestNoReasonNoCloseCode(t *testing.T) {
	if code, reason := closing(nil); code != 0 || reason != "" {
		t.Errorf("got %d %s", code, reason)
	}
}

func FuzzFrame(f *testing.F) {
	for _, seed := range []string{`{"type":"input","rows":[{"x":1}]}`, `{"type":"credit","messages":5}`, `{"type":"end"}`, `{"type":"input","inputs":[{}],"parameters":{"sequence_id":"a"}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := parseFrame(b)
		if err != nil {
			if fault.CodeOf(err) != codeFrame {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		if frame.Type != "input" && frame.Type != "credit" && frame.Type != "end" || frame.Messages < 0 || frame.Messages > maxCredit || len(frame.ID) > maxFrameID {
			t.Errorf("%q became %+v", b, frame)
		}
	})
}

// events reads server-sent events as "event id data".
type events struct {
	t    testing.TB
	body *bufio.Scanner
	stop context.CancelFunc
	code int
}

func (s *streams) events(method, path, body, last string) *events {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); resp.Body.Close(); http.DefaultClient.CloseIdleConnections() })
	return &events{s.t, bufio.NewScanner(resp.Body), cancel, resp.StatusCode}
}

func (e *events) next() (kind, id, data string) {
	for e.body.Scan() {
		line := e.body.Text()
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "event":
			kind = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if kind != "" {
				return kind, id, data
			}
		}
	}
	return "closed", "", ""
}

func TestPredictionAsEvents(t *testing.T) {
	s := newStreams(t, Config{})
	e := s.events("POST", "/models/write/predictions", `{"rows":[{"x":1}],"outputs":[{"name":"y"}],"parameters":{"max_steps":6}}`, "")
	kind, _, data := e.next()
	var begun started
	if err := json.Unmarshal([]byte(data), &begun); err != nil || kind != "start" || begun.Version != "1" || begun.URLs["stream"] != "/streams/"+begun.ID+"/events" {
		t.Fatalf("%s %s", kind, data)
	}
	y, _ := streamtest.Written(1, 6)
	read := func(e *events, from, to int) (last string) {
		t.Helper()
		for i := from; i < to; i++ {
			var kind, data string
			kind, last, data = e.next()
			if want := fmt.Sprintf(`{"step":%d,"outputs":[{"name":"y","datatype":"INT64","shape":[1,1],"data":[%d]}]}`, i+1, y[i]); kind != "output" || data != want {
				t.Errorf("got %s %s, want %s", kind, data, want)
			}
		}
		return last
	}
	last := read(e, 0, 2)
	e.stop() // cut off
	var again *events
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if again = s.events("GET", begun.URLs["stream"], "", last); again.code == 200 || time.Now().After(end) {
			break // until then the server had not seen that the first connection is gone
		}
	}
	read(again, 2, 6)
	if kind, _, data := again.next(); kind != "metric" || !strings.HasPrefix(data, `{"steps":6,"ended":"max_steps",`) {
		t.Errorf("%s %s", kind, data)
	}
	if kind, _, _ := again.next(); kind != "end" {
		t.Errorf("got %s", kind)
	}
	if other := s.events("GET", begun.URLs["stream"]+"?tenant=other", "", ""); other.code != 400 {
		t.Errorf("another tenant gets %d", other.code)
	}
	if failed := s.events("POST", "/models/write/predictions", `{"rows":[{"x":1000}]}`, ""); failed.code != 400 {
		t.Errorf("a prediction that fails at once answers %d", failed.code)
	}
	one := s.events("POST", "/models/plain/predictions", `{"rows":[{"x":5,"state":0}],"outputs":[{"name":"y"}]}`, "")
	for _, want := range []string{"start", "output", "metric", "end", "closed"} {
		if kind, _, data := one.next(); kind != want {
			t.Errorf("got %s %s, want %s", kind, data, want)
		}
	}
}

// An output may need all the room that there is for events that nobody has read.
func TestLargeOutputAsEvents(t *testing.T) {
	s := newStreams(t, Config{})
	s.bed.Write(t, "bulk", 1, "max_batch_size: 60000\n")
	if err := s.bed.Load(t.Context(), "bulk", serve.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	rows := strings.Repeat(`{"x":5,"state":999999},`, 60_000)
	e := s.events("POST", "/models/bulk/predictions", `{"rows":[`+rows[:len(rows)-1]+`],"outputs":[{"name":"y"}]}`, "")
	e.body.Buffer(nil, 4<<20)
	if e.code != 200 {
		e.body.Scan()
		t.Fatalf("got %d %s", e.code, e.body.Text())
	}
	for _, want := range []string{"start", "output", "metric", "end"} {
		if kind, _, data := e.next(); kind != want || want == "output" && len(data) < 400<<10 {
			t.Fatalf("got %s of %d bytes, want %s", kind, len(data), want)
		}
	}
}

// A prediction whose client has taken everything keeps nobody out, however long
// it could be read again.
func TestEventsThatWereTakenMakeRoom(t *testing.T) {
	s := newStreams(t, Config{Live: LiveConfig{Keep: time.Hour, MaxPerTenant: 1}})
	for range 3 {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			e := s.events("POST", "/models/plain/predictions", `{"rows":[{"x":5,"state":0}],"outputs":[{"name":"y"}]}`, "")
			if e.code != 200 { // the server may not have seen yet that the one before is done
				if time.Now().After(end) {
					t.Fatalf("got %d", e.code)
				}
				continue
			}
			for kind := ""; kind != "closed"; kind, _, _ = e.next() {
			}
			break
		}
	}
}

// A drain lets predictions go on, and tells those that do not end in time.
func TestEventsThroughADrain(t *testing.T) {
	s := newStreams(t, Config{Live: LiveConfig{Grace: time.Hour}})
	proceed := make(chan struct{})
	o, err := s.lives.begin(t.Context(), "t", func(ctx context.Context, o *live) error {
		err := o.put(ctx, "start", struct{}{})
		o.start()
		<-proceed
		err = errors.Join(err, o.put(ctx, "output", struct{}{}))
		<-ctx.Done()
		return errors.Join(err, ctx.Err())
	})
	if err != nil {
		t.Fatal(err)
	}
	s.lives.leave(o)
	e := s.events("GET", "/streams/"+o.id+"/events", "", "")
	expect := func(want, part string) {
		t.Helper()
		if kind, _, data := e.next(); kind != want || !strings.Contains(data, part) {
			t.Errorf("got %s %s, want %s", kind, data, want)
		}
	}
	expect("start", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	drained := make(chan error, 2)
	go func() { drained <- s.hub.Drain(ctx) }()
	go func() { drained <- s.Drain(ctx) }()
	<-s.stopping
	close(proceed)
	expect("output", "")
	expect("error", `"code":"draining"`)
	expect("end", "")
	expect("closed", "")
	if err := errors.Join(<-drained, <-drained); err != nil {
		t.Error(err)
	}
	if _, err := s.lives.begin(t.Context(), "t", nil); fault.CodeOf(err) != "draining" {
		t.Error(err)
	}
}

// A client that leaves, and does not come back, cancels its prediction; what has
// ended is forgotten.
func TestEventsAreCancelled(t *testing.T) {
	s := newStreams(t, Config{Live: LiveConfig{Grace: time.Millisecond, Keep: time.Millisecond, MaxPerTenant: 1}})
	cancelled := make(chan error, 1)
	o, err := s.lives.begin(t.Context(), "t", func(ctx context.Context, o *live) error {
		if err := o.put(ctx, "start", struct{}{}); err != nil {
			return err
		}
		o.start()
		<-ctx.Done()
		cancelled <- ctx.Err()
		return ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lives.begin(t.Context(), "t", nil); fault.CodeOf(err) != "streams_per_tenant" {
		t.Error(err)
	}
	s.lives.leave(o)
	if err := <-cancelled; err == nil {
		t.Error("not cancelled")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s.lives.mu.Lock()
		left := len(s.lives.all) + len(s.lives.tenants)
		s.lives.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d are left", left)
		}
	}
}
