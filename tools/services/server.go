package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// How long a server may take until it answers, once it is installed. It takes
// seconds on an idle machine; this is for one that builds at the same time.
const patience = 3 * time.Minute

// server is one process of the set. All of its files are in a folder of its
// own, which is also its working directory.
type server struct {
	name string
	addr string // host:port for clients
	dir  string
	env  []string
	// install returns the path of the program, building or fetching it first
	// where the user's cache lacks it.
	install func(ctx context.Context) (string, error)
	// command writes the configuration and returns what to execute.
	command func(program string) ([]string, error)
	// ready returns nil once the server does what tests want of it: an open
	// port promises nothing. It is tried until then, a few seconds each time.
	ready func(ctx context.Context) error
}

// start says whether the server had to be started.
func (v *server) start(ctx context.Context) (fresh bool, err error) {
	p := running(v.dir)
	if fresh = p == nil; fresh {
		if p, err = v.launch(ctx); err != nil {
			return fresh, err
		}
	}
	_ = syscall.Kill(p.pid, syscall.SIGCONT) // it may be frozen
	if err := v.await(ctx, p); err != nil {
		err = fmt.Errorf("%w; the end of its log:\n%s", err, tail(v.dir, 30))
		return fresh, errors.Join(err, p.end(context.WithoutCancel(ctx), syscall.SIGTERM))
	}
	return fresh, nil
}

func (v *server) launch(ctx context.Context) (*process, error) {
	program, err := v.install(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return nil, err
	}
	argv, err := v.command(program)
	if err != nil {
		return nil, err
	}
	return spawn(ctx, v.dir, argv, v.env)
}

// await tries until the server is ready, has exited, or patience ends.
// An answer counts only from a living server: it could be another's.
func (v *server) await(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		try, done := context.WithTimeout(ctx, 10*time.Second)
		err := v.ready(try)
		done()
		switch {
		case !p.alive():
			return errors.New("has ended instead of answering")
		case err == nil:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("does not answer at %s: %w", v.addr, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
