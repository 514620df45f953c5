// Command api is Sluice in one process: the model server with its HTTP, gRPC
// and operations listeners.
//
//	api [flags]         serve until SIGTERM or SIGINT
//	api config [flags]  print the settings in effect, and where each comes from
//	api version         print the version
//	api audit verify    prove a copy of the audit log
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sluice/cmd/internal/models"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/telemetry"
)

// process is what a command may use of the process that it runs in.
type process struct {
	args    []string // without the program's and the command's name
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

// commands are run instead of serving where the first argument names one.
var commands = map[string]func(context.Context, process) error{
	"config":            printConfig,
	"version":           printVersion,
	"audit":             auditCommand,
	models.ProbeCommand: func(ctx context.Context, p process) error { return models.Probe(ctx, p.args, p.stdin, p.stdout) }, // by the server itself
}

func main() {
	p := process{os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr}
	os.Exit(run(context.Background(), p))
}

// run dispatches to a command and returns the exit code: 0, or 1 with what
// failed on stderr.
func run(ctx context.Context, p process) int {
	command := serveAll
	if len(p.args) > 0 {
		if c, ok := commands[p.args[0]]; ok {
			command, p.args = c, p.args[1:]
		}
	}
	err := command(ctx, p)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, config.ErrHelp):
		return usage(p.stdout)
	}
	fmt.Fprintln(p.stderr, "api:", err)
	return 1
}

func usage(w io.Writer) int {
	fmt.Fprint(w, "Usage: api [flags]         serve until SIGTERM or SIGINT\n"+
		"       api config [flags]  print the settings in effect, and where each comes from\n"+
		"       api version         print the version\n"+
		"       api audit verify    prove a copy of the audit log; -h says how\n\nSettings, each as flag and environment variable:\n")
	if err := config.Usage(w); err != nil {
		return 1
	}
	return 0
}

func printConfig(_ context.Context, p process) error {
	cfg, err := config.Load(p.args, p.environ)
	if err != nil {
		return err
	}
	return cfg.Print(p.stdout)
}

func printVersion(_ context.Context, p process) error {
	b := telemetry.ReadBuild()
	_, err := fmt.Fprintln(p.stdout, "sluice", b.Version, b.Revision, b.GoVersion)
	return err
}

func auditCommand(ctx context.Context, p process) error {
	if len(p.args) == 0 || p.args[0] != "verify" {
		return fault.New(fault.Invalid, "audit has one command: api audit verify -key data/audit.pub data/audit")
	}
	return audit.VerifyCommand(ctx, p.args[1:], p.stdout)
}

func serveAll(ctx context.Context, p process) error {
	cfg, err := config.Load(p.args, p.environ)
	if err != nil {
		return err
	}
	ctx, stop := lifecycle.Signals(ctx)
	defer stop()
	lifecycle.Tune(cfg.Runtime.GOGC, int64(cfg.Runtime.MaxGarbage), int64(cfg.Runtime.MemoryLimit))
	a, err := newApp(ctx, cfg, p.stdout, p.stderr)
	if err != nil {
		return err
	}
	a.ready = lifecycle.Settle
	return a.Run(ctx)
}
