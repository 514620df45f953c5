package feedhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/web"
)

// Subprotocol is what clients have to ask for: the server sends JSON texts with
// a type, first "open", then "event" only as far as the client has granted
// credit by {"type":"credit","messages":n,"bytes":n}.
const Subprotocol = "sluice.v1"

// Close codes, besides 1000 behind the end and 1012 when the server stops.
const (
	CloseUnauthorized websocket.StatusCode = 4001 // the credential is not valid any more
	CloseSlow         websocket.StatusCode = 4008 // too slow for slow=disconnect
	CloseCursorLost   websocket.StatusCode = 4010 // strict, and the cursor is lost
)

// maxFrame is the most bytes of a client's message.
const maxFrame = 4 << 10

// WebSocket serves a stream over a WebSocket (RFC 6455). Refusals come before
// the upgrade, as HTTP, but for a lost cursor and a stream that has ended.
func (h *Handler) WebSocket(w http.ResponseWriter, r *http.Request, t Target) error {
	req, err := request(r, &t)
	if err != nil {
		return err
	}
	if !offers(r.Header, Subprotocol) {
		return fault.New(fault.Invalid, "the WebSocket must offer the subprotocol %s in Sec-WebSocket-Protocol", Subprotocol).WithCode("subprotocol_missing")
	}
	req.Transport, req.Credits = "websocket", true
	s, err := h.hub.Subscribe(r.Context(), req)
	late := errors.Is(err, feed.ErrEnded) || fault.Is(err, fault.Gone)
	if err != nil && !late {
		return err
	}
	if s != nil {
		defer s.Close()
		web.Stream(r.Context()) // the hub has limits of its own
	}
	c, accepted := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Subprotocol}, OriginPatterns: h.cfg.Origins, CompressionMode: websocket.CompressionDisabled})
	if accepted != nil {
		return nil // Accept has answered with what is wrong
	}
	o := &socket{c: c, s: s, timeout: h.cfg.WriteTimeout}
	defer o.close()
	if err == nil {
		err = o.serve(r.Context(), h.serving(r.Context()))
	}
	if code, reason := closing(err); code > 0 {
		_ = c.Close(code, reason) // where it fails the client is gone
	}
	return nil
}

func offers(h http.Header, protocol string) bool {
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(p) == protocol {
				return true
			}
		}
	}
	return false
}

// closing returns the close code of what ended a stream; 0 where the connection
// is gone.
func closing(err error) (websocket.StatusCode, string) {
	reason := fault.Clip(fault.Of(err).Text(), 120)
	switch {
	case errors.Is(err, feed.ErrEnded):
		return websocket.StatusNormalClosure, "the stream has ended"
	case errors.Is(err, feed.ErrDraining):
		return websocket.StatusServiceRestart, "the server stops: connect again with the last cursor"
	case errors.Is(err, feed.ErrSlow):
		return CloseSlow, "too slow for slow=disconnect"
	case fault.Is(err, fault.Gone):
		return CloseCursorLost, reason
	case fault.Is(err, fault.Unauthenticated), fault.Is(err, fault.PermissionDenied):
		return CloseUnauthorized, reason
	case fault.CodeOf(err) == codeFrame:
		return websocket.StatusPolicyViolation, reason
	}
	return 0, ""
}

// socket is one open WebSocket.
type socket struct {
	c       *websocket.Conn
	s       *feed.Subscription
	timeout time.Duration
	readers sync.WaitGroup
}

// close ends the connection, if it is still open, and waits for its reader.
func (o *socket) close() {
	_ = o.c.CloseNow() // closed already, where that matters
	o.readers.Wait()
}

// serve writes events as the client grants credit, until either side ends. The
// reader outlives it: a reader that is cancelled would end the connection before
// the client has got its close code.
func (o *socket) serve(ctx context.Context, how feed.Serving) error {
	o.c.SetReadLimit(maxFrame)
	open, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.readers.Go(func() { cancel(o.credits(ctx)) })
	err := o.send(ctx, opening(o.s))
	if err == nil {
		err = o.s.Serve(open, o, how)
	}
	if open.Err() != nil {
		return context.Cause(open)
	}
	return err
}

// Put sends a batch, each event within the time limit.
func (o *socket) Put(ctx context.Context, batch []*feed.Event) error {
	for _, e := range batch {
		if err := o.send(ctx, e.Frame()); err != nil {
			return err
		}
	}
	return nil
}

// opening tells clients that cannot read headers where the replay begins.
func opening(s *feed.Subscription) []byte {
	b, _ := json.Marshal(struct { // strings always can be
		Type   string      `json:"type"`
		From   string      `json:"replayed_from"`
		Policy feed.Policy `json:"slow"`
	}{"open", s.From().String(), s.Policy()})
	return b
}

// send writes a message whole, or in vain: a write that is cancelled would end the
// connection before the client has got its close code.
func (o *socket) send(ctx context.Context, frame []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.timeout)
	defer cancel()
	return o.c.Write(ctx, websocket.MessageText, frame)
}

// Ping waits for the answer: a client that is gone is noticed.
func (o *socket) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.timeout)
	defer cancel()
	return o.c.Ping(ctx)
}

// credits reads the client's messages and returns what ends that.
func (o *socket) credits(ctx context.Context) error {
	for {
		kind, b, err := o.c.Read(ctx)
		if err != nil {
			return err
		}
		if kind != websocket.MessageText {
			return badFrame("messages must be text")
		}
		c, err := parseCredit(b)
		if err != nil {
			return err
		}
		o.s.Grant(c.Messages, c.Bytes)
	}
}

// creditFrame is a client's message.
type creditFrame struct {
	Type     string `json:"type"`
	Messages int64  `json:"messages"` // how many more it takes
	Bytes    int64  `json:"bytes"`    // how many more bytes of data; 0 for no bound of its own
}

// The most that one message grants.
const (
	maxMessages = 1_000_000
	maxBytes    = 1 << 30
)

func parseCredit(b []byte) (creditFrame, error) {
	var c creditFrame
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, badFrame("a message must be one JSON object with type credit, and whole numbers as messages and bytes: " + fault.Clip(err.Error(), 40))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, badFrame("a message must be one JSON object")
	}
	if c.Type != "credit" || c.Messages < 0 || c.Messages > maxMessages || c.Bytes < 0 || c.Bytes > maxBytes {
		return c, badFrame("expected type credit, messages 0 to 1000000, bytes 0 to 2^30")
	}
	return c, nil
}

const codeFrame = "frame_invalid"

func badFrame(text string) error { return fault.New(fault.Invalid, "%s", text).WithCode(codeFrame) }
