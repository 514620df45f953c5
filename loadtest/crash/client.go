package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// gate holds clients back while there is no server, so that what fails was on
// its way when the server was killed.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if !open {
			g.open = make(chan struct{})
		}
	default:
		if open {
			close(g.open)
		}
	}
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is what a request came to.
type answer struct {
	Status  int
	Code    string // of a problem
	ETag    string
	Body    []byte
	Replay  bool
	InDoubt bool // an earlier attempt of the same request has no answer
	Tries   int
}

func (a *answer) ok() bool { return a.Status >= 200 && a.Status < 300 }

func (a *answer) String() string {
	return fmt.Sprintf("%d %s after %d tries (in doubt: %t)", a.Status, a.Code, a.Tries, a.InDoubt)
}

// request is an operation as it is sent, again and again if need be.
type request struct {
	Method, Path string
	Key          string // Idempotency-Key; empty for what is idempotent by itself
	IfMatch      string
	Header       map[string]string // more of it
	Body         any
}

// caller sends requests until there is a definite answer.
type caller struct {
	base       string
	credential string // an API key; empty where none is needed
	http       *http.Client
	gate       *gate
	tally      *tally
}

func newCaller(base string, g *gate, t *tally) *caller {
	transport := &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}
	return &caller{base: base, http: &http.Client{Transport: transport, Timeout: 15 * time.Second}, gate: g, tally: t}
}

// do sends the request, and again on any doubt, until it has an answer that does
// not ask for another try. It fails only where ctx ends first.
func (c *caller) do(ctx context.Context, r request) (*answer, error) {
	doubt := false
	for try := 1; ; try++ {
		if err := c.gate.wait(ctx); err != nil {
			return nil, err
		}
		a, err := c.send(ctx, r)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.tally.count(r, a, err)
		if err == nil && !again(a) {
			a.InDoubt, a.Tries = doubt, try
			return a, nil
		}
		doubt = doubt || err != nil || a.Status >= 500
		wait := min(time.Duration(try)*25*time.Millisecond, 300*time.Millisecond)
		if a != nil && a.Code == "idempotency_in_flight" {
			wait = time.Second // as Retry-After says
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// again says whether the same request, sent again, may have another answer.
func again(a *answer) bool {
	return a.Status >= 500 || a.Status == http.StatusTooManyRequests || a.Code == "idempotency_in_flight"
}

func (c *caller) send(ctx context.Context, r request) (*answer, error) {
	var body io.Reader
	if r.Body != nil {
		data, err := json.Marshal(r.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, c.base+r.Path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// A transport sends a request again by itself if it has a key, or may be
	// repeated anyway: an attempt here is one on the wire.
	req.GetBody = nil
	if r.Key != "" {
		req.Header.Set("Idempotency-Key", r.Key)
	}
	if r.IfMatch != "" {
		req.Header.Set("If-Match", r.IfMatch)
	}
	if c.credential != "" {
		req.Header.Set("Authorization", "Bearer "+c.credential)
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{Status: res.StatusCode, ETag: res.Header.Get("ETag"), Body: data, Replay: res.Header.Get("Idempotent-Replayed") != ""}
	if a.Status < 400 {
		return a, nil
	}
	var p struct{ Code string }
	if res.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(data, &p) != nil || p.Code == "" {
		c.tally.wrong("%s %s was answered %d with no problem that has a code: %.200q", r.Method, r.Path, a.Status, data)
	}
	a.Code = p.Code
	return a, nil
}

// tally counts what clients see, and keeps what they must never see.
type tally struct {
	mu       sync.Mutex
	attempts int
	good     int            // answers of success, and of having been done before
	lost     int            // attempts without an answer
	reads    int            // that succeeded
	replays  int            // answers that were kept for repetitions
	codes    map[string]int // of refusals
	problems []string
}

func newTally() *tally { return &tally{codes: map[string]int{}} }

func (t *tally) count(r request, a *answer, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts++
	switch {
	case err != nil:
		t.lost++
		return
	case a.Replay:
		t.replays++
	}
	if a.ok() || settled(a) {
		t.good++
		if r.Method == http.MethodGet {
			t.reads++
		}
		return
	}
	t.codes[a.Code]++
	if a.Status == http.StatusInternalServerError {
		t.keep(fmt.Sprintf("%s %s was answered 500 %s: %.300q", r.Method, r.Path, a.Code, a.Body))
	}
}

// settled says whether a refusal says that the operation was done before.
func settled(a *answer) bool { return a.Code == "answer_not_kept" || a.Code == "already_processed" }

func (t *tally) wrong(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(fmt.Sprintf(format, args...))
}

func (t *tally) keep(problem string) {
	if len(t.problems) < 100 {
		t.problems = append(t.problems, problem)
	}
}

// snapshot returns a copy of the counts, to tell phases apart.
func (t *tally) snapshot() (good int, codes map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	codes = map[string]int{}
	for k, v := range t.codes {
		codes[k] = v
	}
	return t.good, codes
}

// valid fails where under half of the requests succeeded: such a run shows
// nothing, however few things were wrong in it.
func (t *tally) valid() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempts == 0 {
		return errors.New("no request was sent: the run shows nothing")
	}
	if t.good*2 < t.attempts {
		return fmt.Errorf("%d of %d requests succeeded: with under half the run shows nothing; refusals: %v, without answer: %d", t.good, t.attempts, t.codes, t.lost)
	}
	return nil
}
