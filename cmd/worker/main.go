// Command worker runs durable predictions, batches and exports, and carries what the
// processes of bin/api have committed: it publishes the outbox, writes the audit log,
// calls webhooks and removes what has expired. Run as many as you like beside bin/api,
// on the same servers: each takes predictions from the same queue, and each part
// of the other work has one owner at a time, which another replaces when it ends.
//
//	worker [flags]         work until SIGTERM or SIGINT
//	worker config [flags]  print the settings in effect, and where each comes from
//	worker version         print the version
//
// It needs database.url and nats.url, and the model repository of bin/api; with
// job.concurrency=0 it loads no models and runs no predictions. Its one listener
// is that of operations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sluice/cmd/internal/models"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/telemetry"
)

// process is what the program may use of the process that it runs in.
type process struct {
	args           []string // without the program's name
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	started        func(*worker) // called once everything has started; tests set it
}

func main() {
	os.Exit(run(context.Background(), process{args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}))
}

// run returns the exit code: 0, or 1 with what failed on stderr.
func run(ctx context.Context, p process) int {
	err := command(ctx, p)
	if errors.Is(err, config.ErrHelp) {
		err = usage(p.stdout)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(p.stderr, "worker:", err)
	return 1
}

func command(ctx context.Context, p process) error {
	if len(p.args) > 0 && p.args[0] == models.ProbeCommand { // by the worker itself
		return models.Probe(ctx, p.args[1:], p.stdin, p.stdout)
	}
	name := ""
	if len(p.args) > 0 && (p.args[0] == "config" || p.args[0] == "version") {
		name, p.args = p.args[0], p.args[1:]
	}
	if name == "version" {
		b := telemetry.ReadBuild()
		_, err := fmt.Fprintln(p.stdout, "sluice", b.Version, b.Revision, b.GoVersion)
		return err
	}
	cfg, err := config.Load(p.args, p.environ)
	if err != nil {
		return err
	}
	if name == "config" {
		return cfg.Print(p.stdout)
	}
	return work(ctx, cfg, p)
}

func usage(w io.Writer) error {
	fmt.Fprint(w, "Usage: worker [flags]         work until SIGTERM or SIGINT\n"+
		"       worker config [flags]  print the settings in effect, and where each comes from\n"+
		"       worker version         print the version\n\nSettings, each as flag and environment variable; those of public listeners are bin/api's:\n")
	return config.Usage(w)
}

// shared refuses settings under which the worker would work for nobody.
func shared(cfg config.Config) error {
	if len(cfg.NATS.URL) == 0 {
		return fault.New(fault.Invalid, "nats.url is not set: the queue that runs within bin/api cannot be shared with another process; set it to the servers that bin/api uses, or run bin/api alone, which does this work itself").WithCode("worker_needs_queue")
	}
	if cfg.Database.URL == "" {
		return fault.New(fault.Invalid, "database.url is not set: a worker without it would look after an empty store of its own; set it to the store that bin/api uses").WithCode("worker_needs_store")
	}
	return nil
}

func work(ctx context.Context, cfg config.Config, p process) error {
	if err := shared(cfg); err != nil {
		return err
	}
	ctx, stop := lifecycle.Signals(ctx)
	defer stop()
	lifecycle.Tune(cfg.Runtime.GOGC, int64(cfg.Runtime.MaxGarbage), int64(cfg.Runtime.MemoryLimit))
	w, err := newWorker(ctx, cfg, p)
	if err != nil {
		return err
	}
	return w.run(ctx)
}
