package feedhttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
)

func FuzzCreditFrame(f *testing.F) {
	for _, s := range []string{`{"type":"credit","messages":64,"bytes":1048576}`, `{"type":"credit"}`, `null`, `{"type":"credit","messages":1.5}`, `{"type":"credit","messages":1}{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCredit(b)
		if err != nil {
			if fault.CodeOf(err) != codeFrame {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		if c.Type != "credit" || c.Messages < 0 || c.Messages > maxMessages || c.Bytes < 0 || c.Bytes > maxBytes {
			t.Errorf("%q became %+v", b, c)
		}
	})
}

// Whatever a client sends as Last-Event-ID and in the query is a request that is
// the tenant's own, or a classified refusal.
func FuzzRequest(f *testing.F) {
	f.Add("x-1", "slow=spill&types=a,b")
	f.Add("", "after=earliest&kind=job&id=job_1&strict=1")
	f.Add("x-1\r\nx: y", "tenant=other&%zz")
	f.Fuzz(func(t *testing.T, id, query string) {
		r := httptest.NewRequest(http.MethodGet, "/events", nil)
		r.URL.RawQuery = query
		r.Header["Last-Event-Id"] = []string{id}
		r = r.WithContext(access.With(r.Context(), &access.Principal{Tenant: "t"}))
		req, err := request(r, &Target{Open: true})
		switch {
		case err != nil:
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q %q: %v", id, query, err)
			}
		case req.Filter.Tenant != "t":
			t.Errorf("%q %q: tenant %q", id, query, req.Filter.Tenant)
		}
	})
}

// Whatever bytes follow the upgrade, the server's side ends in time.
func FuzzWebSocketBytes(f *testing.F) {
	f.Add([]byte("\x81\x85\x00\x00\x00\x00hello"))
	f.Add([]byte("\x81\xaf\x00\x00\x00\x00" + `{"type":"credit","messages":64,"bytes":1048576}`))
	f.Add([]byte("\x88\x82\x00\x00\x00\x00\x03\xe8"))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte("\xf1\x00"))
	hub, err := feed.NewHub(nil, feed.Config{})
	if err != nil {
		f.Fatal(err)
	}
	topic, err := feed.NewTopic("x", feed.TopicConfig{Tenant: "t"})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := topic.Append(context.Background(), "output", "", []byte(`1`)); err != nil {
		f.Fatal(err)
	}
	h := New(hub, Config{WriteTimeout: time.Second})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(access.With(r.Context(), &access.Principal{Tenant: "t"}))
		if err := h.Serve(w, r, Target{Topic: topic, Oldest: true}); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	f.Cleanup(func() { hub.Close(); server.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: sluice.v1\r\n\r\n")
		c.Write(b)
		c.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: the server did not end", b)
		}
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) && err == nil {
			t.Errorf("no upgrade: %q", answer)
		}
	})
}
