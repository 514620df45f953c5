package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long a program may take to start, and to end.
const (
	startLimit = 45 * time.Second
	stopLimit  = 45 * time.Second
)

// program is one process of the platform, bin/api or bin/worker, that can be
// started, killed and started again on the same addresses and data.
type program struct {
	name string // of the log file, and in messages
	bin  string
	dir  string // for its log
	env  []string
	ops  string // address of the operations listener
	// up says whether it has started; nil asks the operations listener.
	up   func(context.Context) bool
	args []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// start starts the process and returns once it says that it has started.
func (p *program) start(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(p.dir, p.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.bin, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(foreign(os.Environ()), p.env...), log, log
	cmd.SysProcAttr = endsWithUs()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(ended)
	}()
	deadline := time.Now().Add(startLimit)
	for {
		if p.started(ctx) {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended while it started: %w; its log is %s", p.name, p.err, log.Name())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has not started within %s; its log is %s", p.name, startLimit, log.Name())
		}
	}
}

func (p *program) started(ctx context.Context) bool {
	if p.up != nil {
		return p.up(ctx)
	}
	checks, err := p.checks(ctx)
	return err == nil && checks["startup"] == ""
}

// foreign leaves the platform's own settings out of an environment: what a
// process is told is in env alone.
func foreign(environ []string) []string {
	return slices.DeleteFunc(environ, func(s string) bool { return strings.HasPrefix(s, "SLUICE_") })
}

// signal sends a signal and waits for the end of the process.
func (p *program) signal(s syscall.Signal) error {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-ended:
	case <-time.After(stopLimit):
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("%s still ran %s after %s", p.name, stopLimit, s)
	}
	return nil
}

// kill ends the process as a crash does.
func (p *program) kill() error { return p.signal(syscall.SIGKILL) }

// stop ends the process as an operator does; it must come to a clean end.
func (p *program) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.err != nil {
		return fmt.Errorf("%s did not end cleanly: %w", p.name, p.err)
	}
	return nil
}

func (p *program) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ops+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// checks returns why each dependency is not ready, empty where it is.
func (p *program) checks(ctx context.Context) (map[string]string, error) {
	body, err := p.get(ctx, "/readyz")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Checks []struct{ Name, Status, Reason string }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	out := map[string]string{"startup": "it does not say"}
	for _, c := range answer.Checks {
		out[c.Name] = c.Reason
		if c.Status != "pass" && c.Reason == "" {
			out[c.Name] = c.Status
		}
	}
	return out, nil
}

// metric returns the sum of a metric's samples.
func (p *program) metric(ctx context.Context, name string) (sum float64, err error) {
	body, err := p.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	found := false
	for s := bufio.NewScanner(strings.NewReader(string(body))); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", p.name, name)
	}
	return sum, nil
}

// addresses returns free addresses on loopback.
func addresses(n int) ([]string, error) {
	out := make([]string, n)
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all are held until the last is found
		out[i] = l.Addr().String()
	}
	return out, nil
}
