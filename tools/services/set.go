package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// set is the servers of one checkout.
type set struct {
	place   *place
	base    int // first port
	servers []*server
	env     environment
}

// open describes the set; nothing is started or written.
func open(p *place) (*set, error) {
	base, err := p.block(slices.Concat(natsPorts, minioPorts, cassandraPorts))
	if err != nil {
		return nil, err
	}
	s := &set{place: p, base: base}
	s.addNATS()
	s.addMinIO()
	s.addCassandra()
	// The front of the ClickHouse engine goes here: a function like the above
	// and a variable SLUICE_TEST_CLICKHOUSE_URL.
	return s, nil
}

// add gives the server its folder and the set the address for tests.
func (s *set) add(v *server) { s.servers = append(s.servers, v) }

func (s *set) dir(name string) string { return filepath.Join(s.place.state, name) }

func (s *set) names() []string {
	var names []string
	for _, v := range s.servers {
		names = append(names, v.name)
	}
	return names
}

// named returns the servers of the given names, all for none.
func (s *set) named(names []string) ([]*server, error) {
	if len(names) == 0 {
		return s.servers, nil
	}
	var some []*server
	for _, name := range names {
		i := slices.IndexFunc(s.servers, func(v *server) bool { return v.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no server %q; there are %s", name, strings.Join(s.names(), ", "))
		}
		some = append(some, s.servers[i])
	}
	return some, nil
}

func (s *set) running() []*server {
	return slices.DeleteFunc(slices.Clone(s.servers), func(v *server) bool { return running(v.dir) == nil })
}

// start brings up those of some that do not run, all at once, and returns when
// every one of them answers. One that fails is ended again, and does not keep
// the others from coming up.
func (s *set) start(ctx context.Context, some []*server) error {
	if len(s.running()) == 0 && len(some) == len(s.servers) {
		// Whatever lies here was left by a machine that went down.
		if err := os.RemoveAll(s.place.state); err != nil {
			return err
		}
	}
	if err := s.place.keepBlock(s.base); err != nil {
		return err
	}
	if err := s.environment().save(s.place.state); err != nil {
		return err
	}
	return each(some, func(v *server) error {
		began := time.Now()
		fresh, err := v.start(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		if fresh {
			fmt.Fprintf(os.Stderr, "services: %-9s answers at %s after %.1f s\n", v.name, v.addr, time.Since(began).Seconds())
		}
		return nil
	})
}

// start says whether the server had to be started.
func (v *server) start(ctx context.Context) (fresh bool, err error) {
	p := running(v.dir)
	var exited <-chan struct{}
	if p == nil {
		if p, exited, err = v.launch(ctx); err != nil {
			return true, err
		}
	}
	_ = syscall.Kill(p.pid, syscall.SIGCONT)
	if err := v.await(ctx, exited); err != nil {
		err = fmt.Errorf("%w; the end of its log:\n%s", err, tail(v.dir, 30))
		return exited != nil, errors.Join(err, p.end(context.WithoutCancel(ctx), syscall.SIGTERM))
	}
	return exited != nil, nil
}

func (v *server) launch(ctx context.Context) (*process, <-chan struct{}, error) {
	program, err := v.install(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return nil, nil, err
	}
	argv, err := v.command(program)
	if err != nil {
		return nil, nil, err
	}
	return spawn(ctx, v.dir, argv, v.env)
}

// await tries until the server is ready, has exited, or patience ends.
func (v *server) await(ctx context.Context, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		try, done := context.WithTimeout(ctx, 10*time.Second)
		err := v.ready(try)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return errors.New("has ended instead of answering")
		case <-ctx.Done():
			return fmt.Errorf("does not answer at %s: %w", v.addr, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends servers, and removes everything that is known of them once all of
// them are to end.
func (s *set) stop(ctx context.Context, some []*server) error {
	if err := s.end(ctx, some, syscall.SIGTERM); err != nil {
		return err
	}
	if len(some) < len(s.servers) {
		return nil
	}
	return os.RemoveAll(s.place.state)
}

// end ends servers and leaves their data for the next start.
func (s *set) end(ctx context.Context, some []*server, how syscall.Signal) error {
	return each(some, func(v *server) error {
		p := running(v.dir)
		if p == nil {
			return nil
		}
		if err := p.end(ctx, how); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		return os.Remove(pidFile(v.dir))
	})
}

func (s *set) signal(some []*server, how syscall.Signal) error {
	return each(some, func(v *server) error {
		p := running(v.dir)
		if p == nil {
			return fmt.Errorf("%s does not run", v.name)
		}
		return syscall.Kill(p.pid, how)
	})
}

func (s *set) status() {
	for _, v := range s.servers {
		switch p := running(v.dir); {
		case p == nil:
			fmt.Printf("%-9s stopped\n", v.name)
		case p.paused():
			fmt.Printf("%-9s paused   %s  pid %d\n", v.name, v.addr, p.pid)
		default:
			fmt.Printf("%-9s running  %s  pid %d  log %s\n", v.name, v.addr, p.pid, filepath.Join(v.dir, "log"))
		}
	}
}

// each does f for all at the same time and returns every error.
func each(some []*server, f func(*server) error) error {
	errs := make([]error, len(some))
	var wg sync.WaitGroup
	for i, v := range some {
		wg.Go(func() { errs[i] = f(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
