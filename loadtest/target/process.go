// Package target starts the programs that load tests measure, on free loopback
// ports, and says what they take: CPU time, memory, metrics.
//
// Limits: Linux only where processes are measured. A program is ended by
// SIGTERM, and by force where that takes too long; what it has started itself
// ends with it only if it sees to that, or is of its group (see Group).
package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"sluice/loadtest/load"
)

// Process is a program that is running, or has ended.
type Process struct {
	cmd    *exec.Cmd
	log    string // file
	grace  time.Duration
	group  bool
	exited chan struct{}
	err    error // once exited
}

// Start starts a program whose output goes to a log file.
func Start(cmd *exec.Cmd, log string) (*Process, error) {
	p := &Process{cmd: cmd, log: log, grace: 20 * time.Second, exited: make(chan struct{})}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// Await waits until ready returns no error, at most for the limit. It fails with
// ready's last error, or, where the program has ended before, with how it ended.
func (p *Process) Await(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		reason := ready(ctx)
		if reason == nil {
			return nil
		}
		select {
		case <-p.exited:
			if p.err == nil {
				return errors.New("the program ended before it was ready, without an error of its own")
			}
			return fmt.Errorf("the program ended before it was ready: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("the program is not ready: %w: %w", reason, ctx.Err())
		case <-tick.C:
		}
	}
}

// Exited is closed once the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// CPU returns the CPU time that the process has used.
func (p *Process) CPU() (time.Duration, error) { return load.ProcessCPU(p.PID()) }

// RSS returns the resident memory of the process in bytes.
func (p *Process) RSS() (int64, error) { return load.ProcessRSS(p.PID()) }

// Stop ends the program the way that an operator does, and by force where that
// takes too long. The error is that of the program where it has ended by itself.
func (p *Process) Stop() error {
	select {
	case <-p.exited:
		return p.err
	default:
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return p.err
	case <-time.After(p.grace):
		killed := p.signal(syscall.SIGKILL)
		<-p.exited
		return errors.Join(fmt.Errorf("the program did not end within %s of SIGTERM", p.grace), killed)
	}
}

// Group has a command, and what it will start, form a group of their own, which
// Whole ends together.
func Group(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// Whole says that the program was started as a Group: Stop ends all of it, and lets
// it end by itself for so long.
func (p *Process) Whole(grace time.Duration) { p.group, p.grace = true, grace }

func (p *Process) signal(s syscall.Signal) error {
	if p.group {
		return syscall.Kill(-p.PID(), s)
	}
	return p.cmd.Process.Signal(s)
}

// Tail returns the end of the log, and how the program ended if it has.
func (p *Process) Tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	end := string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
	select {
	case <-p.exited:
		if p.err != nil {
			end += "\n" + p.err.Error()
		}
	default:
	}
	return end
}

// FreeAddrs returns loopback addresses that nobody listens on now.
func FreeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // all stay taken until the last is chosen
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs, nil
}
