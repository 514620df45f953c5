package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server that was started by this call or an earlier one. A pid
// alone could meanwhile belong to somebody else's process, so the pid file
// also says when the process began.
type process struct {
	pid   int
	began string
}

// spawn starts a server that outlives this command: in a session of its own,
// so that Ctrl-C in the terminal does not reach it, with its output in a file.
func spawn(ctx context.Context, dir string, argv, env []string) (*process, error) {
	out, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...) //nolint:gosec // G204: a server of the set
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid}
	_, p.began, err = inspect(p.pid) // before Wait: until then even a dead one has its entry
	go func() { _ = cmd.Wait() }()   // how it ended is in its log
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(pidFile(dir), fmt.Appendf(nil, "%d %s\n", p.pid, p.began), 0o644)
}

func pidFile(dir string) string { return filepath.Join(dir, "pid") }

// running returns the process of a server's folder, nil where it has none.
func running(dir string) *process {
	b, err := os.ReadFile(pidFile(dir))
	if err != nil {
		return nil
	}
	pid, began, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	p := &process{began: began}
	if p.pid, err = strconv.Atoi(pid); err != nil || !p.alive() {
		return nil
	}
	return p
}

// alive counts a zombie as dead: where nobody collects orphans, as in many
// containers, a process that has ended keeps its entry.
func (p *process) alive() bool {
	state, began, err := inspect(p.pid)
	return err == nil && state != "Z" && began == p.began
}

func (p *process) paused() bool {
	state, _, err := inspect(p.pid)
	return err == nil && state == "T"
}

// end sends the signal and waits for the process to go; one that does not
// within 20 s is killed.
func (p *process) end(ctx context.Context, how syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	_ = syscall.Kill(p.pid, how)
	_ = syscall.Kill(p.pid, syscall.SIGCONT) // a paused one hears no other signal
	gone := func() bool { return !p.alive() }
	if p.until(ctx, gone) == nil {
		return nil
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	if p.until(context.WithoutCancel(ctx), gone) != nil {
		return fmt.Errorf("process %d does not end, not even when killed", p.pid)
	}
	return nil
}

// until waits for what a signal does, at most 20 s.
func (p *process) until(ctx context.Context, happened func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d does not react: %w", p.pid, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// inspect returns the state letter of a process and when it began, in whatever
// unit the system says it: it is only compared.
func inspect(pid int) (state, began string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil {
		// The name in parentheses may itself hold blanks and parentheses.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 20 {
			return "", "", errors.New("unreadable /proc entry")
		}
		return f[0], f[19], nil
	}
	if _, have := os.Stat("/proc/self/stat"); have == nil {
		return "", "", err
	}
	return inspectByPS(pid)
}

// inspectByPS serves systems without /proc, such as macOS.
func inspectByPS(pid int) (state, began string, err error) {
	b, err := exec.CommandContext(context.Background(), "ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // G204: the variable is a number
	if err != nil {
		return "", "", err
	}
	state, began, _ = strings.Cut(strings.TrimSpace(string(b)), " ")
	if state == "" {
		return "", "", errors.New("no such process")
	}
	return state[:1], strings.TrimSpace(began), nil
}

// tail returns the last lines of a server's log.
func tail(dir string, lines int) string {
	f, err := os.Open(filepath.Join(dir, "log"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var last []string
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		last = append(last, "    "+in.Text())
		last = last[max(0, len(last)-lines):]
	}
	return strings.Join(last, "\n")
}
