package natsqueue

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// ServerConfig configures a server within this process. It has no listener.
type ServerConfig struct {
	// Sync is how often what was stored is made to survive a loss of power; 0
	// syncs every write before it is acknowledged. A kill of the process loses
	// nothing with either.
	Sync       time.Duration
	MaxStore   int64         // bytes on disk of all streams; default 8 GiB
	MaxMessage int           // bytes of a message; default 1 MiB, at most 8 MiB
	StartLimit time.Duration // how long a start may take, which reads the store; default 1m
	Log        *slog.Logger  // nil discards
}

// Server is a NATS server within this process, for Config.Server. After an error
// of the disk a NATS server takes nothing more for the streams it hit until it is
// started again, so this one starts it again once the disk takes writes.
type Server struct {
	folder  string
	cfg     ServerConfig
	broken  chan string // what the disk did
	failing atomic.Bool
	stop    context.CancelFunc
	stopped chan struct{} // watch has ended

	mu     sync.RWMutex
	server *server.Server
}

// Start starts a server that keeps its data below the folder. The folder must
// not be used by another.
func Start(ctx context.Context, folder string, cfg ServerConfig) (*Server, error) {
	cfg.MaxStore = cmp.Or(cfg.MaxStore, 8<<30)
	cfg.MaxMessage = cmp.Or(cfg.MaxMessage, 1<<20)
	cfg.StartLimit = cmp.Or(cfg.StartLimit, time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if folder == "" || cfg.Sync < 0 || cfg.MaxStore < 0 || cfg.MaxMessage < queue.Overhead || cfg.MaxMessage > 8<<20 {
		return nil, bad(nil, "the queue's server needs a folder, limits above 0 and messages of %d to %d bytes", queue.Overhead, 8<<20)
	}
	s := &Server{folder: folder, cfg: cfg, broken: make(chan string, 1), stopped: make(chan struct{})}
	var err error
	if s.server, err = s.launch(ctx); err != nil {
		return nil, err
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	go s.watch(ctx)
	return s, nil
}

// launch starts a server on the folder.
func (s *Server) launch(ctx context.Context) (*server.Server, error) {
	ns, err := server.NewServer(&server.Options{
		ServerName: "sluice", DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: s.folder, JetStreamMaxStore: s.cfg.MaxStore, JetStreamMaxMemory: 64 << 20,
		SyncAlways: s.cfg.Sync == 0, SyncInterval: s.cfg.Sync,
		MaxPayload: int32(s.cfg.MaxMessage), MaxPending: 64 << 20, MaxConn: 1024,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, bad(err, "the queue's server does not take its configuration")
	}
	ns.SetLoggerV2(logger{s.cfg.Log.With("component", "nats"), s.failed}, s.cfg.Log.Enabled(ctx, slog.LevelDebug), false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		ns.Start()
	}()
	select {
	case <-started:
	case <-time.After(s.cfg.StartLimit):
	case <-ctx.Done():
	}
	if !ns.ReadyForConnections(time.Second) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		<-started
		return nil, fault.New(fault.Internal, "the queue's server did not start on %s; is the folder writable and used by no other process?", s.folder).WithCode("queue_start_failed")
	}
	return ns, nil
}

// InProcessConn implements nats.InProcessConnProvider, with the server of now.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.server.InProcessConn()
}

// Stop ends the server and returns when its files are written and closed, or
// with ctx.
func (s *Server) Stop(ctx context.Context) error {
	s.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-s.stopped
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.DeadlineExceeded, ctx.Err(), "the queue's server is still closing its files")
	}
}

// logger hands the server's log on. Its notices are for those who run servers.
// Its errors may say that the disk failed.
type logger struct {
	*slog.Logger
	failed func(detail string)
}

func text(format string, v []any) slog.Attr {
	return slog.String("detail", strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// Noticef implements server.Logger.
func (l logger) Noticef(format string, v ...any) { l.Debug("the queue's server", text(format, v)) }

// Warnf implements server.Logger.
func (l logger) Warnf(format string, v ...any) {
	l.Warn("the queue's server warns", text(format, v))
}

// Errorf implements server.Logger.
func (l logger) Errorf(format string, v ...any) {
	detail := text(format, v)
	l.Error("the queue's server reports an error", detail)
	if d := detail.Value.String(); strings.Contains(d, "critical write error") || strings.Contains(d, "will be DISABLED") {
		l.failed(d)
	}
}

// Fatalf implements server.Logger. The server does not go on after it; the
// process does, and Start or Healthy report.
func (l logger) Fatalf(format string, v ...any) {
	l.Error("the queue's server gave up", text(format, v))
}

// Debugf implements server.Logger.
func (l logger) Debugf(format string, v ...any) { l.Debug("the queue's server", text(format, v)) }

// Tracef implements server.Logger.
func (l logger) Tracef(string, ...any) {}
