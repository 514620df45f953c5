package main

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// supervised is a program that is started again whenever it ends, as a service
// manager does.
type supervised struct {
	*program
	gate *gate // open while the program runs; nil for one that nobody waits for

	mu      sync.Mutex
	ends    int
	stopped bool
	done    chan struct{}
	failure error
}

// supervise starts a program, and again whenever it ends.
func supervise(ctx context.Context, p *program, g *gate) (*supervised, error) {
	s := &supervised{program: p, gate: g, done: make(chan struct{})}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	s.open(true)
	go s.run(ctx)
	return s, nil
}

func (s *supervised) open(yes bool) {
	if s.gate != nil {
		s.gate.set(yes)
	}
}

func (s *supervised) run(ctx context.Context) {
	defer close(s.done)
	for failures := 0; ; {
		<-s.current()
		s.open(false)
		s.mu.Lock()
		s.ends++
		stopped := s.stopped
		s.mu.Unlock()
		if stopped {
			return
		}
		err := s.start(ctx)
		switch {
		case err == nil:
			failures = 0
			s.open(true)
			continue
		case ctx.Err() != nil || failures == maxStartFailures:
			s.mu.Lock()
			s.failure = err
			s.mu.Unlock()
			return
		}
		failures++ // what it needs is away, perhaps, or it was killed again
		time.Sleep(200 * time.Millisecond)
	}
}

// maxStartFailures is how often a program may fail to start, one time after the
// other, before the campaign gives up.
const maxStartFailures = 50

// current returns what is closed when the process that runs now has ended.
func (s *supervised) current() <-chan struct{} {
	s.program.mu.Lock()
	defer s.program.mu.Unlock()
	return s.ended
}

// hurt sends a signal to the process that runs now, and does not wait.
func (s *supervised) hurt(signal syscall.Signal) error {
	s.program.mu.Lock()
	defer s.program.mu.Unlock()
	return s.cmd.Process.Signal(signal)
}

// count returns how often the program has ended, and why it is not started any
// more.
func (s *supervised) count() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends, s.failure
}

// end ends the program for good, in order.
func (s *supervised) end() error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	err := s.signal(syscall.SIGTERM)
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.failure)
}
