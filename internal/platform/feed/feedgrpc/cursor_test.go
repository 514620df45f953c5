package feedgrpc

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/platform/feed/feedgrpc/feedpb"
	"sluice/internal/platform/feed/feedhttp"
)

// transports read up to n events behind a cursor, over one connection each, and
// return their cursors.
var transports = map[string]func(b *bed, after string, n int) []string{
	"grpc": overGRPC, "sse": overSSE, "websocket": overWebSocket, "list": overList,
}

func overGRPC(b *bed, after string, n int) (seen []string) {
	s := b.subscribe(&feedpb.SubscribeRequest{After: after, Strict: true})
	defer s.cancel()
	s.next() // open
	for range n {
		at, _, _ := strings.Cut(s.next(), " ")
		seen = append(seen, at)
	}
	return seen
}

func overSSE(b *bed, after string, n int) (seen []string) {
	resp := b.get("/events?strict=1", after)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); len(seen) < n && lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			seen = append(seen, id)
		}
	}
	return seen
}

func overWebSocket(b *bed, after string, n int) (seen []string) {
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+b.http.URL[len("http"):]+"/events?strict=1&after="+after, &websocket.DialOptions{Subprotocols: []string{feedhttp.Subprotocol}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"credit","messages":%d}`, n)); err != nil {
		b.Fatal(err)
	}
	for len(seen) < n {
		_, text, err := c.Read(ctx)
		var m struct{ Type, ID string }
		if err != nil || json.Unmarshal(text, &m) != nil {
			b.Fatalf("%s: %v", text, err)
		}
		if m.Type == "event" {
			seen = append(seen, m.ID)
		}
	}
	return seen
}

func overList(b *bed, after string, n int) (seen []string) {
	for len(seen) < n {
		resp := b.get(fmt.Sprintf("/list?strict=1&limit=%d&after=%s", n, after), "")
		var page struct {
			Data []struct{ Cursor string }
			Next string `json:"next_cursor"`
		}
		err := json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil || len(page.Data) == 0 {
			b.Fatalf("%+v, %v", page, err)
		}
		for _, e := range page.Data {
			seen = append(seen, e.Cursor)
		}
		after = page.Next
	}
	return seen
}

func (b *bed) get(path, lastEvent string) *http.Response {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, b.http.URL+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	if lastEvent != "" {
		r.Header.Set("Last-Event-ID", lastEvent)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %v, %v", path, resp, err)
	}
	return resp
}

// A cursor that any transport has given goes on over every other: from each
// event on, each gives exactly those that follow.
func TestOneCursorOnAllTransports(t *testing.T) {
	b := open(t, setup{})
	const n = 5
	var all []string
	for i := range n {
		b.publish("a", "job.moved")
		all = append(all, cursor(i+1))
	}
	for from, begin := range transports {
		for to, goOn := range transports {
			for k := range n - 1 {
				first := begin(b, "earliest", k+1)
				seen := append(first, goOn(b, first[k], n-k-1)...)
				if !slices.Equal(seen, all) {
					t.Errorf("%d events over %s and the rest over %s: %q", k+1, from, to, seen)
				}
			}
		}
	}
}
