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

// set is the servers of one checkout.
type set struct {
	place   *place
	base    int // first port
	servers []*server
	env     environment
}

// open describes the set; nothing is started or written.
func open(p *place) (*set, error) {
	base, err := p.block(slices.Concat(natsPorts, minioPorts, cassandraPorts, clickhousePorts))
	if err != nil {
		return nil, err
	}
	s := &set{place: p, base: base}
	p.members(s)
	return s, nil
}

// all adds every server.
func all(s *set) {
	s.addNATS()
	s.addMinIO()
	s.addCassandra()
	s.addClickHouse()
}

// add takes a server in; its files go where its name says.
func (s *set) add(v *server) {
	v.dir = s.dir(v.name)
	s.servers = append(s.servers, v)
}

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

// signal freezes servers or lets them go on, and returns once they have done
// so: a process with many threads takes a moment, in which it may still answer.
func (s *set) signal(ctx context.Context, some []*server, how syscall.Signal) error {
	return each(some, func(v *server) error {
		p := running(v.dir)
		if p == nil {
			return fmt.Errorf("%s does not run", v.name)
		}
		if err := syscall.Kill(p.pid, how); err != nil {
			return err
		}
		return p.until(ctx, func() bool { return p.paused() == (how == syscall.SIGSTOP) })
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
