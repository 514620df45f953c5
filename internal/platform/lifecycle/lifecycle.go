// Package lifecycle runs the components of a program: it starts them in
// order, keeps them running, and takes them down in three steps so that no
// accepted work is lost.
//
//  1. Notice: the program reports not ready and goes on serving, so that load
//     balancers and clients with kept connections can turn away.
//  2. Drain: all components at once stop taking new work and finish what they
//     have, within a common grace period.
//  3. Stop: in reverse order, what still runs is cancelled and resources are
//     given back.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Component is one part of a program. Every function is optional.
type Component struct {
	Name string
	// Start acquires what the component needs and returns once it is usable;
	// the next component starts after it. ctx ends when the start is given up.
	Start func(ctx context.Context) error
	// Run does the component's work until ctx ends, which happens in the stop
	// step. An error before that shuts the whole program down; nil means that
	// the component has nothing more to do.
	Run func(ctx context.Context) error
	// Drain stops taking new work and returns when accepted work is finished,
	// or with ctx at the end of the grace period. It must leave the component
	// able to finish work that others still hand it.
	Drain func(ctx context.Context) error
	// Stop gives back what Start acquired. It follows the end of Run.
	Stop func(ctx context.Context) error
}

// Config says how to shut down.
type Config struct {
	Notice      time.Duration // between not ready and drain
	Grace       time.Duration // for drain
	StopTimeout time.Duration // for each component's stop; 0 means 5s
	// Started is called once every component has started; Draining when the
	// shutdown begins. Both may be nil.
	Started, Draining func()
	Log               *slog.Logger // nil discards
}

// Run starts the components and serves until ctx ends or a component fails,
// then shuts down. It returns what failed, and nil after a clean shutdown.
func Run(ctx context.Context, cfg Config, components ...Component) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 5 * time.Second
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g := &group{Config: cfg, fail: fail}

	started := g.start(ctx, components)
	if started {
		call(cfg.Started)
		<-ctx.Done()
	}
	cfg.Log.Info("shutting down", "notice", cfg.Notice, "grace", cfg.Grace)
	call(cfg.Draining)
	// The shutdown outlives ctx: that has ended already.
	ctx = context.WithoutCancel(ctx)
	if started {
		time.Sleep(cfg.Notice)
	}
	g.drain(ctx)
	g.stop(ctx)
	return errors.Join(g.errs...)
}

// group is the state of one Run.
type group struct {
	Config
	fail    context.CancelCauseFunc
	running []*running // in start order

	mu   sync.Mutex
	errs []error
}

// running is a started component. done is closed when its Run has returned.
type running struct {
	Component
	cancel context.CancelFunc
	done   chan struct{}
}

func (g *group) report(name, step string, err error) {
	err = fmt.Errorf("%s: %s: %w", name, step, err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.errs = append(g.errs, err)
}

// start starts the components one after the other, and reports whether all
// are up. It gives up when ctx ends, be it by a failing component.
func (g *group) start(ctx context.Context, components []Component) bool {
	for _, c := range components {
		if ctx.Err() != nil {
			return false
		}
		began := time.Now()
		if c.Start != nil {
			if err := c.Start(ctx); err != nil {
				if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
					g.report(c.Name, "start", err)
				}
				return false
			}
		}
		g.Log.Debug("started", "component", c.Name, "took", time.Since(began))
		g.running = append(g.running, g.run(ctx, c))
	}
	return true
}

// run runs the component in a goroutine whose context outlives the start's:
// it ends in the stop step.
func (g *group) run(ctx context.Context, c Component) *running {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{Component: c, cancel: cancel, done: make(chan struct{})}
	if c.Run == nil {
		close(r.done)
		return r
	}
	go func() {
		defer close(r.done)
		if err := c.Run(ctx); err != nil && ctx.Err() == nil {
			g.report(c.Name, "run", err)
			g.fail(err)
		}
	}()
	return r
}

// drain drains all components at once: one with a long request must not take
// the grace period from another.
func (g *group) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, g.Grace)
	defer cancel()
	var all sync.WaitGroup
	for _, r := range g.running {
		if r.Drain == nil {
			continue
		}
		all.Go(func() {
			if err := r.Drain(ctx); err != nil {
				g.report(r.Name, "drain", err)
			}
		})
	}
	all.Wait()
}

// stop ends the components in reverse order.
func (g *group) stop(ctx context.Context) {
	for i := len(g.running) - 1; i >= 0; i-- {
		g.stopOne(ctx, g.running[i])
	}
}

func (g *group) stopOne(ctx context.Context, r *running) {
	ctx, cancel := context.WithTimeout(ctx, g.StopTimeout)
	defer cancel()
	r.cancel()
	select {
	case <-r.done:
	case <-ctx.Done():
		// Its resources stay: giving them back under its feet would be worse.
		g.report(r.Name, "stop", fmt.Errorf("still running %s after it was cancelled", g.StopTimeout))
		return
	}
	if r.Stop == nil {
		return
	}
	if err := r.Stop(ctx); err != nil {
		g.report(r.Name, "stop", err)
	}
}

func call(f func()) {
	if f != nil {
		f()
	}
}
