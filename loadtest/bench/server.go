package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/load"
)

// server is a running bin/api of ours.
type server struct {
	addr, ops string
	ready     time.Duration // from the start of the process to /readyz 200
	cmd       *exec.Cmd
	log       string // file
	exited    chan struct{}
	err       error // of the process, once exited
}

const readyLimit = 60 * time.Second

// start starts the server on a model repository, with further settings as
// variables of the environment, and waits until it is ready.
func (b *bench) start(ctx context.Context, name, repository, data string, env ...string) (*server, error) {
	addrs, err := freeAddrs(3)
	if err != nil {
		return nil, err
	}
	s := &server{addr: addrs[0], ops: addrs[2], log: filepath.Join(b.dir, name+".log"), exited: make(chan struct{})}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(b.binary) // #nosec G204 -- the server under test; stop ends it
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = append(append(os.Environ(), env...),
		"SLUICE_HTTP_ADDR="+addrs[0], "SLUICE_GRPC_ADDR="+addrs[1], "SLUICE_OPS_ADDR="+addrs[2],
		"SLUICE_DATA_DIR="+data, "SLUICE_MODEL_REPOSITORY="+repository, "SLUICE_BENCH_NOOP=true")
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.waitReady(ctx); err != nil {
		return nil, fmt.Errorf("%w; the server's log ends:\n%s", err, tail(s.log, s.stop()))
	}
	s.ready = time.Since(begin)
	return s, nil
}

func (s *server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	reason := "no answer yet"
	for {
		if body, err := s.get(ctx, "/readyz"); err == nil {
			return nil
		} else if body != "" {
			reason = body
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended before it was ready: %w", s.err)
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %s: %w", reason, ctx.Err())
		case <-tick.C:
		}
	}
}

// stop ends the server the way that an operator does, and by force where that
// takes too long.
func (s *server) stop() error {
	select {
	case <-s.exited:
		return s.err
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		return s.err
	case <-time.After(20 * time.Second):
		killed := s.cmd.Process.Kill()
		<-s.exited
		return errors.Join(errors.New("the server did not end within 20 s of SIGTERM"), killed)
	}
}

// cpu returns the CPU time that the server has used.
func (s *server) cpu() (time.Duration, error) { return load.ProcessCPU(s.cmd.Process.Pid) }

var opsClient = &http.Client{Timeout: 10 * time.Second}

// get returns the body of a page of the operations listener. A status other
// than 200 is an error, with the body.
func (s *server) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.ops+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := opsClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return string(body), err
}

// metrics is a snapshot of the server's metrics page.
type metrics string

func (s *server) metrics(ctx context.Context) (metrics, error) {
	text, err := s.get(ctx, "/metrics")
	return metrics(text), err
}

// sum adds the samples of a metric whose labels contain the given text.
func (m metrics) sum(name, labels string) float64 {
	total := 0.0
	for line := range strings.Lines(string(m)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, labels) {
			continue
		}
		value := strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:])
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			total += v
		}
	}
	return total
}

// freeAddrs returns loopback addresses that nobody listens on now.
func freeAddrs(n int) ([]string, error) {
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

// tail returns the end of a log, and the error of the process if it has one.
func tail(path string, exit error) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	end := string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
	if exit != nil {
		end += "\n" + exit.Error()
	}
	return end
}
