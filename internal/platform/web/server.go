package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/lifecycle"
)

// Server is an HTTP server with every limit set. Its life is that of a
// lifecycle component: Listen, Run, Drain.
type Server struct {
	cfg      Config
	http     *http.Server
	listener *listener
	inFlight atomic.Int64 // requests inside the guard
	places   atomic.Int64 // those that count against MaxInFlight
	draining atomic.Bool
}

// New returns a server of the routes that register adds. Its guard runs
// before any middleware that register installs.
func New(cfg Config, routes func(*echo.Echo)) (*Server, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	announced := cfg.Draining
	cfg.Draining = func() bool { return s.draining.Load() || announced() }
	m, err := newMetrics(cfg.Metrics, &s.inFlight)
	if err != nil {
		return nil, err
	}
	policy, err := cfg.CORS.compile()
	if err != nil {
		return nil, err
	}
	g := &guard{Config: cfg, ids: newIDs(), metrics: m, inFlight: &s.inFlight, places: &s.places, tracer: cfg.Tracing.Tracer("sluice/web"), cors: policy, lingering: make(chan struct{}, maxLingering)}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn).Writer())
	e.HTTPErrorHandler = cfg.ErrorHandler
	e.Use(g.middleware)
	routes(e)
	if cfg.Routes != nil {
		if err := cfg.Routes.check(e.Routes()); err != nil {
			return nil, err
		}
	}
	m.addRoutes(e.Routes())
	s.http = newHTTP(cfg, e)
	return s, nil
}

// NewPlain returns a server of a bare handler, without the guard: for few and
// trusted callers, as the operations endpoints have.
func NewPlain(cfg Config, h http.Handler) (*Server, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	s.http = newHTTP(cfg, http.MaxBytesHandler(h, cfg.MaxBody))
	return s, nil
}

func newServer(cfg Config) (*Server, error) {
	l, err := newListener(cfg)
	return &Server{cfg: cfg, listener: l}, err
}

func newHTTP(cfg Config, h http.Handler) *http.Server {
	if cfg.LoopbackOnly {
		h = loopbackOnly(h, cfg.CORS)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(cfg.H2C)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
		MaxHeaderBytes:    cfg.MaxHeader,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		ConnState: func(nc net.Conn, state http.ConnState) {
			c, ok := nc.(*conn)
			if ok && state != http.StateNew {
				c.used()
			}
			if ok && state == http.StateHijacked {
				c.hijacked()
			}
		},
	}
}

// Component returns the server as a part of a program.
func (s *Server) Component() lifecycle.Component {
	return lifecycle.Component{Name: s.cfg.Name, Start: s.Listen, Run: s.Run, Drain: s.Drain}
}

// Listen opens the listener; connections wait until Run.
func (s *Server) Listen(ctx context.Context) error {
	return s.listener.listen(ctx, s.cfg.Name, s.cfg.Addr)
}

// Addr returns the address listened on. Call it after Listen.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, then cancels what is still in flight and returns
// when its handlers have. Call Drain first to let them finish.
func (s *Server) Run(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		if !s.draining.Load() {
			s.http.Close()
			return err
		}
		<-ctx.Done()
	case <-ctx.Done():
	}
	s.http.Close()
	wait(context.Background(), func() bool { return s.inFlight.Load() == 0 })
	return nil
}

// settleTime is how long drain waits for the connections that clients have made
// and for the first request of each.
const settleTime = time.Second

// Drain accepts what has connected, closes the listener, lets every request that
// was accepted finish, and closes the connections. Where ctx ends first it returns its error and the
// rest goes on until Run's context ends.
//
// http.Server.Shutdown alone would drop requests: it closes a connection
// without an answer if its request was read just after the shutdown began. So
// connections that were just accepted get their first request answered before.
func (s *Server) Drain(ctx context.Context) error {
	if s.listener.Listener == nil || s.draining.Swap(true) {
		return nil
	}
	settle, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	s.listener.closeWhenEmpty(settle)
	wait(settle, func() bool { return s.listener.fresh.Load() == 0 })
	if err := s.http.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// wait returns when done or when ctx ends.
func wait(ctx context.Context, done func() bool) { poll(ctx, 2*time.Millisecond, done) }

// poll is wait that asks at the given interval.
func poll(ctx context.Context, interval time.Duration, done func() bool) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Routes returns the table of routes, for tests that walk them all; nil without
// Config.Routes.
func (s *Server) Routes() []Route {
	if s.cfg.Routes == nil {
		return nil
	}
	return s.cfg.Routes.All()
}
