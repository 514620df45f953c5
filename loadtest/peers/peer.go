package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/target"
)

// peer is a server to compare with.
type peer struct {
	name, title string
	// command is run in the peer's folder by the Python of its environment.
	command []string
	env     []string
	// system says that the machine's own Python is needed.
	system bool
	batch  bool                     // it has models that are batched, too
	wires  map[load.Encoding]wire   // what it takes
	ready  func(addr string) string // URL that answers 200
	python string                   // once installed
}

// wire is a way to send tensors.
type wire int

const (
	oip   wire = iota // the protocol over HTTP
	grpc              // the protocol over gRPC, with raw contents
	plain             // the peer's own JSON
)

func protocol() map[load.Encoding]wire {
	return map[load.Encoding]wire{load.JSON: oip, load.Binary: oip}
}

var peers = []*peer{
	{name: "mlserver", title: "MLServer 1.7.1", command: []string{"serve.py"}, batch: true,
		wires: map[load.Encoding]wire{load.JSON: oip, load.Binary: grpc}, ready: func(addr string) string { return addr + "/v2/health/ready" }},
	{name: "kserve", title: "KServe 0.21.0", command: []string{"serve.py", "--log_config_file", "log.yaml"},
		wires: protocol(), ready: func(addr string) string { return addr + "/v2/health/ready" }},
	{name: "bentoml", title: "BentoML 1.4.40", command: []string{"-m", "bentoml", "serve", "service:Onnx"}, batch: true,
		env: []string{"BENTOML_DO_NOT_TRACK=True"}, wires: map[load.Encoding]wire{load.JSON: plain}, ready: func(addr string) string { return addr + "/readyz" }},
	{name: "ray", title: "Ray Serve 2.60.0", command: []string{"serve_app.py"}, batch: true,
		env: []string{"RAY_USAGE_STATS_ENABLED=0"}, wires: protocol(), ready: func(addr string) string { return addr + "/-/healthz" }},
	{name: "triton", title: "Triton (PyTriton 0.7.0)", command: []string{"serve.py"}, batch: true, system: true,
		wires: protocol(), ready: func(addr string) string { return addr + "/v2/models/transformer_batched/ready" }},
}

// install makes the environments. A peer whose environment cannot be made is reported and left
// out; it is an error if all are.
func (b *bed) install(ctx context.Context, chosen []*peer) error {
	installed := 0
	for _, p := range chosen {
		cmd := target.Group(exec.CommandContext(ctx, "tools/venv.sh", filepath.Join("loadtest", "peers", p.name, "requirements.txt"))) // #nosec G204 -- names of ours
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }                                           // with what it has started
		cmd.WaitDelay = 10 * time.Second
		cmd.Stderr = b.out
		if p.system { // the interpreter inside the peer is older than the newest patch releases
			cmd.Env = append(os.Environ(), "PATH=/usr/bin:"+os.Getenv("PATH"))
		}
		path, err := cmd.Output()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.leave(p, fmt.Errorf("it cannot be installed: %w", err))
			continue
		}
		p.python = strings.TrimSpace(string(path))
		installed++
	}
	if installed == 0 {
		return errors.New("none of the peers could be installed: it takes Python 3 and a package registry that pip knows")
	}
	return nil
}

// running is a server with its addresses.
type running struct {
	process    *target.Process
	http, grpc string
}

// startLimit is long: some peers start a dozen processes.
const startLimit = 120 * time.Second

// start starts a peer and waits until it is ready.
func (p *peer) start(ctx context.Context, dir string) (*running, error) {
	addrs, err := target.FreeAddrs(2)
	if err != nil {
		return nil, err
	}
	models, err := filepath.Abs(filepath.Join("loadtest", "models"))
	if err != nil {
		return nil, err
	}
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	cmd := target.Group(exec.Command(p.python, append([]string{"-B"}, p.command...)...)) // #nosec G204 -- a peer of ours; stop ends it
	cmd.Dir = filepath.Join("loadtest", "peers", p.name)
	cmd.Env = append(append(os.Environ(), "PEER_PORT="+port(addrs[0]), "PEER_GRPC_PORT="+port(addrs[1]), "PEER_MODELS="+models,
		fmt.Sprintf("PEER_WORKERS=%d", runtime.NumCPU()), "ORT_DISABLE_TELEMETRY=1", "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1", "NO_PROXY=127.0.0.1"), p.env...)
	process, err := target.Start(cmd, filepath.Join(dir, p.name+".log"))
	if err != nil {
		return nil, err
	}
	process.Whole(15 * time.Second)
	r := &running{process, addrs[0], addrs[1]}
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	err = process.Await(ctx, startLimit, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ready(r.http), nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			time.Sleep(50 * time.Millisecond)
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			time.Sleep(50 * time.Millisecond)
			return errors.New(resp.Status)
		}
		return nil
	})
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("%w; its log ends:\n%s", err, process.Tail())
	}
	return r, nil
}

// stop ends a server with all that it has started. How it ends is its own affair.
func (r *running) stop() { _ = r.process.Stop() }
