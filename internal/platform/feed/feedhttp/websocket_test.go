package feedhttp

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/platform/feed"
)

// socketClient is a WebSocket of a test.
type socketClient struct {
	t testing.TB
	c *websocket.Conn
}

func (b *bed) socket(query string) *socketClient {
	b.t.Helper()
	c, resp, err := websocket.Dial(b.t.Context(), "ws://"+b.addr+"/events?"+query, &websocket.DialOptions{Subprotocols: []string{Subprotocol}})
	if err != nil {
		b.t.Fatalf("%v (%v)", err, resp)
	}
	b.t.Cleanup(func() { c.CloseNow() })
	return &socketClient{t: b.t, c: c}
}

func (s *socketClient) grant(messages, bytes int) {
	s.t.Helper()
	s.send(fmt.Sprintf(`{"type":"credit","messages":%d,"bytes":%d}`, messages, bytes))
}

func (s *socketClient) send(text string) {
	s.t.Helper()
	if err := s.c.Write(s.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// next returns the next message, or the code that the server closed with.
func (s *socketClient) next() string {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	_, b, err := s.c.Read(ctx)
	if err != nil {
		return fmt.Sprintf("closed %d", websocket.CloseStatus(err))
	}
	return string(b)
}

func (s *socketClient) expect(want ...string) {
	s.t.Helper()
	for _, w := range want {
		if got := s.next(); got != w {
			s.t.Errorf("got %s, want %s", got, w)
		}
	}
}

func opened(seq int, policy feed.Policy) string {
	return fmt.Sprintf(`{"type":"open","replayed_from":"x-%d","slow":"%s"}`, seq, policy)
}

func frame(seq int) string {
	return fmt.Sprintf(`{"type":"event","id":"x-%d","event":"output","data":{"ok":true}}`, seq)
}

func TestWebSocketSendsWhatIsGranted(t *testing.T) {
	b := open(t, setup{http: Config{Ping: 20 * time.Millisecond}})
	b.add(5)
	s := b.socket("after=x-1")
	s.expect(opened(1, feed.Spill))
	s.grant(2, 0)
	s.expect(frame(2), frame(3))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	go s.grantLater(ctx)
	began := time.Now()
	s.expect(frame(4))
	if time.Since(began) < 100*time.Millisecond {
		t.Error("more was sent than granted")
	}
	s.expect(frame(5))
	s.grant(100, 11) // from now on bytes count: one event has 11
	b.add(2)
	s.expect(frame(6))
	s.grant(0, 11)
	s.expect(frame(7))
	s.grant(100, 1000)
	b.topic.End()
	s.expect(`{"type":"event","id":"x-8","event":"end","data":{}}`, "closed 1000")
	b.socket("after=x-8").expect("closed 1000")
}

// grantLater grants two messages when ctx ends.
func (s *socketClient) grantLater(ctx context.Context) {
	<-ctx.Done()
	s.c.Write(context.Background(), websocket.MessageText, []byte(`{"type":"credit","messages":2}`))
}

func TestWebSocketCloseCodes(t *testing.T) {
	b := open(t, setup{topic: feed.TopicConfig{MaxEvents: 2}, http: Config{Ping: 10 * time.Millisecond}})
	b.add(5)
	b.socket("after=x-1&strict=1").expect("closed 4010")
	for _, bad := range []string{`{}`, `{"type":"credit","messages":-1}`, `{"type":"credit","messages":1}x`, `[]`, `{"type":"credit","messages":1,"more":1}`, `{"type":"credit","messages":1e9}`} {
		s := b.socket("")
		s.expect(opened(5, feed.Spill))
		s.send(bad)
		s.expect("closed 1008")
	}
	s := b.socket("")
	s.expect(opened(5, feed.Spill))
	s.send(strings.Repeat(" ", maxFrame+1))
	s.expect("closed 1009")
	slow := b.socket("slow=disconnect")
	slow.expect(opened(5, feed.Disconnect))
	b.add(3)
	slow.expect("closed 4008")
	s = b.socket("")
	s.next()
	done := make(chan error, 1)
	go func() { done <- b.hub.Drain(t.Context()) }()
	s.expect("closed 1012")
	if err := <-done; err != nil {
		t.Error(err)
	}
	late := open(t, setup{expires: time.Now().Add(200 * time.Millisecond)}).socket("")
	late.next()
	late.expect("closed 4001")
}

func TestWebSocketRefusals(t *testing.T) {
	b := open(t, setup{hub: feed.Config{MaxPerTenant: 1}})
	dial := func(origin string, protocols ...string) int {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		c, resp, err := websocket.Dial(t.Context(), "ws://"+b.addr+"/events", &websocket.DialOptions{Subprotocols: protocols, HTTPHeader: h})
		if err == nil {
			c.CloseNow()
		}
		return resp.StatusCode
	}
	if got := dial("https://evil.example", Subprotocol); got != http.StatusForbidden {
		t.Errorf("another origin: %d", got)
	}
	if got := dial(""); got != http.StatusBadRequest {
		t.Errorf("without the subprotocol: %d", got)
	}
	b.socket("").next()
	if got := dial("", Subprotocol); got != http.StatusTooManyRequests {
		t.Errorf("over the limit: %d", got)
	}
}

// A client that answers nothing is noticed and given up.
func TestWebSocketNoticesTheDead(t *testing.T) {
	b := open(t, setup{http: Config{Ping: 20 * time.Millisecond, WriteTimeout: 100 * time.Millisecond}})
	b.dial("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: sluice.v1\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	time.Sleep(500 * time.Millisecond)
	if err := b.hub.Drain(ctx); err != nil { // at once, if the dead one is gone
		t.Error(err)
	}
}
