package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// with runs a command against the set. What ran before goes on running, what
// was started for it is ended, also where the command failed or was
// interrupted.
func with(ctx context.Context, p *place, argv []string) (err error) {
	if len(argv) == 0 {
		return errors.New("with needs a command, as in: services with make test")
	}
	var before []*server
	var s *set
	err = p.locked(func() (err error) {
		if s, err = open(p); err != nil {
			return err
		}
		before = s.running()
		return s.start(ctx, s.servers)
	})
	defer func() { err = errors.Join(err, after(context.WithoutCancel(ctx), p, s, before)) }()
	if err != nil {
		return err
	}
	return command(ctx, argv, s.environment())
}

// command runs argv with the addresses in its environment. An interrupted one
// has ten seconds to end by itself.
func command(ctx context.Context, argv []string, env environment) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // G204: the user asks for it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env.pairs()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}

// after ends what did not run before.
func after(ctx context.Context, p *place, s *set, before []*server) error {
	if s == nil {
		return nil
	}
	return p.locked(func() error {
		var started []*server
		for _, v := range s.servers {
			if !contains(before, v.name) {
				started = append(started, v)
			}
		}
		return s.stop(ctx, started)
	})
}

func contains(some []*server, name string) bool {
	for _, v := range some {
		if v.name == name {
			return true
		}
	}
	return false
}
