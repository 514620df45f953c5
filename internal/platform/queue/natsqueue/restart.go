package natsqueue

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// failed notes that the disk failed under a stream.
func (s *Server) failed(detail string) {
	s.failing.Store(true)
	select {
	case s.broken <- detail:
	default:
	}
}

// How often a disk that failed is tried, and with how many bytes: a server that
// starts again with less than it needs would fail at once.
const (
	tryInterval = time.Second
	tryBytes    = 4 << 20
)

// watch starts the server again after errors of the disk, until ctx ends.
func (s *Server) watch(ctx context.Context) {
	defer close(s.stopped)
	for {
		select {
		case <-ctx.Done():
			return
		case detail := <-s.broken:
			s.cfg.Log.ErrorContext(ctx, "the queue's server cannot write; it starts again when the disk takes writes", "detail", detail)
		}
		for try := true; try; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(tryInterval):
			}
			try = s.writable() != nil || s.restart(ctx) != nil
		}
	}
}

// writable says whether the disk takes writes.
func (s *Server) writable() error {
	path := filepath.Join(s.folder, "writable")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Repeat([]byte{1}, tryBytes)) // not zeros, which some systems do not store
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
}

// restart puts a new server in the old one's place. Clients connect again by
// themselves.
func (s *Server) restart(ctx context.Context) error {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	for len(s.broken) > 0 { // of the old one
		<-s.broken
	}
	fresh, err := s.launch(ctx)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "the queue's server does not start again", "error", err)
		return err
	}
	s.mu.Lock()
	s.server = fresh
	s.mu.Unlock()
	s.failing.Store(len(s.broken) > 0)
	s.cfg.Log.InfoContext(ctx, "the queue's server has started again")
	return nil
}
