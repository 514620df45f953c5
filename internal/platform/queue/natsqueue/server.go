package natsqueue

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
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

// Server is a NATS server within this process, for Config.Server.
type Server struct {
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
	s, err := server.NewServer(&server.Options{
		ServerName: "sluice", DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: folder, JetStreamMaxStore: cfg.MaxStore, JetStreamMaxMemory: 64 << 20,
		SyncAlways: cfg.Sync == 0, SyncInterval: cfg.Sync,
		MaxPayload: int32(cfg.MaxMessage), MaxPending: 64 << 20, MaxConn: 1024,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, bad(err, "the queue's server does not take its configuration")
	}
	s.SetLoggerV2(logger{cfg.Log.With("component", "nats")}, cfg.Log.Enabled(ctx, slog.LevelDebug), false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.Start()
	}()
	select {
	case <-started:
	case <-time.After(cfg.StartLimit):
	case <-ctx.Done():
	}
	if !s.ReadyForConnections(time.Second) || !s.JetStreamEnabled() {
		s.Shutdown()
		<-started
		return nil, fault.New(fault.Internal, "the queue's server did not start on %s; is the folder writable and used by no other process?", folder).WithCode("queue_start_failed")
	}
	return &Server{server: s}, nil
}

// Stop ends the server and returns when its files are written and closed, or
// with ctx.
func (s *Server) Stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
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
type logger struct{ *slog.Logger }

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
	l.Error("the queue's server reports an error", text(format, v))
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
