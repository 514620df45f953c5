// Package client speaks the native API: requests that are repeated where that does
// no harm, problems as errors, pages as sequences, event streams that resume,
// uploads and downloads that go on where they broke off.
//
// Answers are handed on as the server has written them: what a newer server says
// beyond what this package knows is not lost.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/resilience"
)

// Config says which server is spoken to. Zero values mean the default.
type Config struct {
	URL     string        // default http://127.0.0.1:8000
	Key     string        // an API key or a token; empty where the server asks for none
	Timeout time.Duration // of one attempt of a request that is no stream; default 2m
	// MaxAnswer bounds answers that are kept in memory, in bytes; default 64 MiB.
	MaxAnswer int64
}

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	base *url.URL
	key  string
	http *http.Client                              // whole answers, repeated where they may be
	open *http.Client                              // streams: no time limit and no repetition
	rest func(context.Context, time.Duration) bool // waits, see pause.For
}

// New returns a client. fault.Invalid: the URL is none.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(cmp.Or(cfg.URL, "http://127.0.0.1:8000"), "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "%q is no address of a server: expected something like https://sluice.example.com", fault.Clip(cfg.URL, 200))
	}
	policy, err := resilience.New(base.Host, resilience.Config{Timeout: cmp.Or(cfg.Timeout, 2*time.Minute),
		Retry: resilience.Retries{Attempts: 5, MinDelay: 200 * time.Millisecond, MaxDelay: 30 * time.Second, Budget: 1}})
	if err != nil {
		return nil, err
	}
	wire := resilience.HTTPConfig{MaxResponse: cmp.Or(cfg.MaxAnswer, 64<<20), Proxy: http.ProxyFromEnvironment}
	open := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // as net/http says
	return &Client{base: base, key: cfg.Key, http: resilience.NewHTTPClient(policy, wire), open: &http.Client{Transport: open}, rest: pause.For}, nil
}

// Close gives up idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.open.CloseIdleConnections()
}

// Request is a request of the native API.
type Request struct {
	Method string // default GET
	Path   string // with the query: /v1/…
	Body   any    // encoded as JSON; nil for none
	Header http.Header
}

// Answer is what the server has said.
type Answer struct {
	Status int
	Header http.Header
	Body   json.RawMessage // empty where there is none
}

// Call sends a request and returns the answer. A POST gets an Idempotency-Key, so
// that it can be repeated. The error is a *Problem where the server has refused.
func (c *Client) Call(ctx context.Context, r Request) (*Answer, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	if req.Method == http.MethodPost && req.Header.Get("Idempotency-Key") == "" {
		req.Header.Set("Idempotency-Key", uuid.NewString())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer resp.Body.Close()
	return answer(resp)
}

// Get reads a resource into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	a, err := c.Call(ctx, Request{Path: path})
	if err != nil {
		return err
	}
	return a.Decode(out)
}

// Decode reads the answer's JSON.
func (a *Answer) Decode(out any) error {
	if err := json.Unmarshal(a.Body, out); err != nil {
		return fault.Wrap(fault.Internal, err, "the server's answer cannot be read: is it a Sluice of this version?")
	}
	return nil
}

// All yields the things of a list, page by page, at most limit of them; 0 is all.
func (c *Client) All(ctx context.Context, path string, limit int) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		cursor := ""
		for n := 0; ; {
			var page struct {
				Data       []json.RawMessage `json:"data"`
				NextCursor string            `json:"next_cursor"`
				HasMore    bool              `json:"has_more"`
			}
			if err := c.Get(ctx, with(path, "cursor", cursor), &page); err != nil {
				yield(nil, err)
				return
			}
			for _, one := range page.Data {
				if !yield(one, nil) {
					return
				}
				if n++; n == limit {
					return
				}
			}
			if !page.HasMore || page.NextCursor == "" {
				return
			}
			cursor = page.NextCursor
		}
	}
}

// with returns the path with a parameter more, unless its value is empty.
func with(path, name, value string) string {
	if value == "" {
		return path
	}
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	return path + mark + name + "=" + url.QueryEscape(value)
}

// request builds a request with the credential.
func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		b, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "the request is no JSON")
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.Method, http.MethodGet), c.base.String()+r.Path, body)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%s is no path", fault.Clip(r.Path, 200))
	}
	req.Header.Set("User-Agent", "sluice-client")
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	return req, nil
}

// answer reads a whole response.
func answer(resp *http.Response) (*Answer, error) {
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, unreachable(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, problemOf(resp, b)
	}
	return &Answer{resp.StatusCode, resp.Header, b}, nil
}
