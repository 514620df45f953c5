package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/inference/stream"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// Subprotocol is what clients of a model's stream have to ask for. Messages are
// JSON texts. The client sends inputs, each like the body of a prediction with
// type "input" and maybe an id, and at last {"type":"end"}. The server sends
// "open" and then, in the order of the inputs, an "output" or an "error" for each;
// a generative model's outputs have a step, and more until the last one.
//
// At most as many inputs are in progress as the window that "open" names: a client that
// does not read is not read from. A client that cannot slow down what it receives, such as
// a browser, asks for ?credit=N: it gets N answers, then as many more as it grants by
// {"type":"credit","messages":N}, and may have up to window inputs unanswered.
const Subprotocol = "sluice.infer.v1"

// Close codes, besides 1000 behind the last answer, 1008 after a message that the
// protocol does not have, 1009 after one that is too large and 1012 when the
// server stops.
const (
	CloseUnauthorized websocket.StatusCode = 4001 // the credential is not valid any more
	CloseIdle         websocket.StatusCode = 4011 // nothing came for too long
)

// SocketConfig holds the limits of WebSockets; zero values have the defaults.
type SocketConfig struct {
	Window       int           // inputs in progress; default 32
	MaxSockets   int           // of all tenants; default 1,000
	MaxPerTenant int           // default 250
	MaxFrame     int64         // bytes of a message; default 4 MiB
	Idle         time.Duration // without a message and with nothing in progress; default 5m
	Ping         time.Duration // default 15s
	WriteTimeout time.Duration // for a message to be taken; default 10s
	// Take counts an input against its sender's quotas; nil limits nothing. The first input is
	// not counted: the request that opened the WebSocket was.
	Take func(context.Context, *access.Principal) error
	// Origins are the hosts, besides the server's own, whose pages may open
	// WebSockets: host patterns as of path.Match.
	Origins []string
}

func (c SocketConfig) resolve() SocketConfig {
	c.Window = cmp.Or(c.Window, 32)
	c.MaxSockets = cmp.Or(c.MaxSockets, 1000)
	c.MaxPerTenant = cmp.Or(c.MaxPerTenant, 250)
	c.MaxFrame = cmp.Or(c.MaxFrame, 4<<20)
	c.Idle = cmp.Or(c.Idle, 5*time.Minute)
	c.Ping = cmp.Or(c.Ping, 15*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	return c
}

// Socket serves a model's stream over a WebSocket (RFC 6455). Refusals come before
// the upgrade, as HTTP.
func (a *API) Socket(w http.ResponseWriter, r *http.Request, target string) error {
	s, err := a.socket(r, target)
	if err != nil {
		return err
	}
	leave, err := a.sockets.enter(s.principal.Tenant, &a.cfg.Socket)
	if err != nil {
		return err
	}
	defer leave()
	web.Stream(r.Context()) // the limits above are its own
	defer a.models.Opened("websocket")()
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Subprotocol}, OriginPatterns: a.cfg.Socket.Origins, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil // Accept has answered with what is wrong
	}
	s.c = c
	defer s.helpers.Wait()
	defer func() { _ = c.CloseNow() }() // closed already, where that matters
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(a.killed, cancel)()
	if code, reason := closing(s.serve(ctx)); code > 0 {
		_ = c.Close(code, reason) // where it fails the client is gone
	}
	return nil
}

// socket checks what the client asks for.
func (a *API) socket(r *http.Request, text string) (*socket, error) {
	p, ok := access.From(r.Context())
	if !ok {
		return nil, access.ErrNoCredential
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return nil, fault.New(fault.Invalid, "this is a WebSocket: send Upgrade: websocket, or POST predictions with Accept: text/event-stream").WithCode("upgrade_missing")
	}
	offered := strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ",")
	found := false
	for one := range strings.SplitSeq(offered, ",") {
		found = found || strings.TrimSpace(one) == Subprotocol
	}
	if !found {
		return nil, fault.New(fault.Invalid, "the WebSocket must offer the subprotocol %s in Sec-WebSocket-Protocol", Subprotocol).WithCode("subprotocol_missing")
	}
	s := &socket{api: a, cfg: &a.cfg.Socket, principal: p, header: r.Header}
	s.model, s.version = target(text)
	if _, err := a.models.Lookup(s.model, s.version); err != nil {
		return nil, err
	}
	if n := r.URL.Query().Get("credit"); n != "" {
		granted, err := strconv.ParseInt(n, 10, 64)
		if err != nil || granted < 0 || granted > maxCredit {
			return nil, fault.New(fault.Invalid, "credit is %q, expected 0 to %d answers", fault.Clip(n, 40), maxCredit).WithCode("credit_invalid")
		}
		s.credit = newCredit(granted)
	}
	return s, nil
}

// Reasons why the server ends a WebSocket.
var (
	errEnd  error = fault.New(fault.Canceled, "the client has sent its last input")
	errStop error = fault.New(fault.Unavailable, "the server stops: send the unanswered inputs again on a new stream")
	errIdle error = fault.New(fault.DeadlineExceeded, "nothing came for too long")
)

// closing returns the code and the reason to close with; no code where the client has gone.
func closing(err error) (websocket.StatusCode, string) {
	if err == nil {
		return 0, ""
	}
	reason := fault.Clip(fault.Of(err).Text(), 120)
	switch {
	case err == errEnd: //nolint:errorlint // made here, never wrapped
		return websocket.StatusNormalClosure, "the stream has ended"
	case err == errStop: //nolint:errorlint // likewise
		return websocket.StatusServiceRestart, reason
	case err == errIdle: //nolint:errorlint // likewise
		return CloseIdle, reason
	case fault.Is(err, fault.Unauthenticated), fault.Is(err, fault.PermissionDenied):
		return CloseUnauthorized, reason
	case fault.CodeOf(err) == codeFrame, fault.CodeOf(err) == "sequences_per_stream":
		return websocket.StatusPolicyViolation, reason
	}
	return 0, ""
}

// socket is one open WebSocket.
type socket struct {
	api            *API
	cfg            *SocketConfig
	principal      *access.Principal
	header         http.Header // of the request that opened it
	model, version string
	c              *websocket.Conn
	ctx            context.Context //nolint:containedctx // the connection's
	credit         *credit         // nil where the connection's own backpressure is enough
	line           *stream.Line
	own            *stream.Own
	seq            int64 // of the last input
	began          time.Time
	last           atomic.Int64 // when the last message came, as a time.Duration since began
	unanswered     atomic.Int64 // inputs
	pinging        atomic.Bool
	helpers        sync.WaitGroup // goroutines that end with the connection
}

// serve takes messages until either side ends, and returns why.
func (s *socket) serve(ctx context.Context) error {
	s.ctx = ctx
	s.c.SetReadLimit(s.cfg.MaxFrame)
	s.line, s.own = stream.NewLine(ctx, s.cfg.Window), s.api.models.Own()
	s.began = time.Now()
	defer s.api.models.Release(s.own)
	frames, gone := make(chan []byte), make(chan error, 1)
	stop := make(chan struct{})
	s.helpers.Go(func() { gone <- s.read(ctx, frames, stop) })
	s.helpers.Go(func() { s.watch(ctx, stop) })
	defer close(stop)
	open, _ := json.Marshal(map[string]any{"type": "open", "model": s.model, "window": s.cfg.Window}) // it always can be
	err := s.write(open)
	if err == nil {
		err = s.take(frames, gone)
	}
	if err == errEnd || err == errStop { //nolint:errorlint // made here, never wrapped
		return s.linger(err, frames, gone)
	}
	s.line.Stop(err)
	return s.line.Wait()
}

// read hands messages on. It outlives serve: a reader that is cancelled would end
// the connection before the client has got its close code.
func (s *socket) read(ctx context.Context, to chan<- []byte, stop <-chan struct{}) error {
	for {
		kind, b, err := s.c.Read(ctx)
		if err == nil && kind != websocket.MessageText {
			err = badFrame("messages must be text")
		}
		if err != nil {
			return err
		}
		s.last.Store(int64(time.Since(s.began)))
		select {
		case to <- b:
		case <-stop: // the rest is read so that the closing handshake is seen
		}
	}
}

// take handles messages until the last input has come.
func (s *socket) take(frames <-chan []byte, gone <-chan error) error {
	for {
		select {
		case b := <-frames:
			if err := s.frame(b); err != nil {
				return err
			}
		case err := <-gone:
			return err
		case <-s.line.Failed():
			return nil // Wait tells why
		case <-s.api.stopping:
			return errStop
		}
	}
}

// linger waits for the answers to what was taken. The client may have to grant
// credit for them.
func (s *socket) linger(why error, frames <-chan []byte, gone <-chan error) error {
	answered := make(chan error, 1)
	s.helpers.Go(func() { answered <- s.line.Wait() })
	for {
		select {
		case b := <-frames:
			if err := s.late(b, why); err != nil {
				s.line.Stop(err)
			}
		case err := <-gone:
			s.line.Stop(err)
		case err := <-answered:
			if err == nil {
				err = why
			}
			return err
		}
	}
}

// late handles a message that comes behind the last input. A client may not know yet that
// the server stops; the close code will tell it that unanswered inputs were not taken.
func (s *socket) late(b []byte, why error) error {
	f, err := parseFrame(b)
	switch {
	case err != nil:
		return err
	case f.Type == "credit":
		return s.grant(f)
	case why == errEnd: //nolint:errorlint // made here, never wrapped
		return badFrame("behind end only credit may follow")
	}
	return nil
}

// watch ends the line when look says so, also while no message is taken because the window
// is full.
func (s *socket) watch(ctx context.Context, stop <-chan struct{}) {
	ticker := time.NewTicker(s.cfg.Ping)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			if err := s.look(ctx, now); err != nil {
				s.line.Stop(err)
				return
			}
		case <-s.line.Failed():
			return
		case <-stop:
			return
		}
	}
}

// look ends a stream that is idle, or whose credential is not valid any more.
func (s *socket) look(ctx context.Context, now time.Time) error {
	if (s.line.Idle() || s.credit.out()) && now.Sub(s.began)-time.Duration(s.last.Load()) >= s.cfg.Idle {
		return errIdle
	}
	if err := s.principal.Holds(ctx, now); err != nil {
		return err
	}
	s.ping(ctx)
	return nil
}

// ping keeps proxies from closing the connection. Nobody waits for the pong, which comes
// behind inputs that were not read yet; whether the client is gone TCP tells.
func (s *socket) ping(ctx context.Context) {
	if s.pinging.Swap(true) {
		return
	}
	s.helpers.Go(func() {
		defer s.pinging.Store(false)
		ctx, cancel := context.WithTimeout(ctx, s.cfg.WriteTimeout)
		defer cancel()
		_ = s.c.Ping(ctx)
	})
}

// frame handles a message.
func (s *socket) frame(b []byte) error {
	f, err := parseFrame(b)
	switch {
	case err != nil:
		return err
	case f.Type == "end":
		return errEnd
	case f.Type == "credit":
		return s.grant(f)
	case s.credit != nil && s.unanswered.Load() >= int64(s.cfg.Window):
		return badFrame("more than %d inputs are unanswered", s.cfg.Window)
	}
	s.seq++
	s.unanswered.Add(1)
	i := &input{socket: s, ask: f, answer: outFrame{ID: f.ID, Seq: s.seq}, account: s.api.memory.Account()}
	i.failed = i.account.Acquire(int64(len(b)))
	if i.failed == nil && s.cfg.Take != nil && s.seq > 1 {
		i.failed = s.cfg.Take(s.ctx, s.principal)
	}
	var o stream.Order
	if v, err := s.api.models.Lookup(s.model, s.version); err == nil {
		var own bool
		if o, own = order(v, f.Parameters); own {
			i.own = s.own
		}
		i.steps = v.Generative()
	}
	return s.line.Add(i, o)
}

// grant handles a message that grants credit.
func (s *socket) grant(f *inFrame) error {
	if s.credit == nil {
		return badFrame("credit is for streams that were opened with ?credit=")
	}
	s.credit.grant(f.Messages)
	return nil
}

// write sends a message. Its context is the connection's, not the line's: a write
// that is cancelled would end the connection before the client has its close code.
func (s *socket) write(frame []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.WriteTimeout)
	defer cancel()
	return s.c.Write(ctx, websocket.MessageText, frame)
}
