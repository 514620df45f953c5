// Command bench measures what Sluice promises and prints one line for each
// goal. It builds and starts the server itself, on free loopback ports with
// temporary data, and measures ONNX Runtime called from Go beside it, in turns,
// so that every figure is a ratio of one run on one machine.
//
//	go run ./loadtest/bench [-short] [-only part,part] [-server bin/api] [-profile folder]
//	go run ./loadtest/bench -server old -against new -with 'GOGC=200'
//
// Run it from the root of the repository. A goal that is missed prints
// "short"; only what is broken (a wrong answer, a failed request) makes it
// exit with 1. How each figure is taken: docs/PERFORMANCE.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one group of measurements.
type part struct {
	name string
	run  func(context.Context, *bench) error
}

var parts = []part{
	{"start", measureStart},
	{"json", measureJSON},
	{"rows", measureRows},
	{"noop", measureNoop},
	{"latency", measureLatency},
	{"allocs", measureAllocs},
	{"open", measureOpen},
	{"overload", measureOverload},
	{"plan", measurePlan},
	{"scale", measureScale},
	{"store", measureStore},
	{"bus", measureBus},
	{"relay", measureRelay},
	{"list", measureList},
	{"log", measureLog},
	{"clickhouse", measureClickHouse},
	{"jobs", measureJobs},
	{"feeds", measureFeeds},
	{"batch", measureBatch},
	{"beside", measureBeside},
	{"export", measureExport},
	{"encode", measureEncode},
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := flags.Bool("short", false, "one short round of everything, for CI")
	only := flags.String("only", "", "the parts to run, separated by commas: "+names())
	binary := flags.String("server", "", "the server's binary; empty builds ./cmd/api")
	profiles := flags.String("profile", "", "a folder for CPU profiles of the server, one for each measurement; they cost some speed")
	against := flags.String("against", "", "measure nothing but what requests cost this binary of the server and -server's, in turns")
	with := flags.String("with", "", "settings of the second server of such a trial, NAME=value separated by spaces")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag, and what follows it would not be read: parts are named by -only", flags.Arg(0))
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	settings := strings.Fields(*with)
	for _, setting := range settings {
		if name, _, ok := strings.Cut(setting, "="); !ok || name == "" {
			return fmt.Errorf("-with %q: a setting is NAME=value, as in SLUICE_RUNTIME_GOGC=200", setting)
		}
	}
	if *profiles != "" {
		if info, err := os.Stat(*profiles); err != nil || !info.IsDir() {
			return fmt.Errorf("-profile %s: there is no such folder", *profiles)
		}
	}
	limit, mode := 35*time.Minute, "full run"
	if *short {
		limit, mode = 5*time.Minute, "short run: figures are rough"
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	b, err := newBench(ctx, *short, *binary, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	b.profiles = *profiles
	if *against != "" || *with != "" {
		chosen = []part{{"trial", trial(*against, settings)}}
	}
	b.report.line("%s", mode)
	b.report.line("machine  %s", machine.Describe())
	b.report.line("runtime  %s, %s", runtime.Version(), b.models.Runtime())
	var failed []error
	for _, p := range chosen {
		b.report.heading(p.name)
		start, witness := time.Now(), b.watch()
		if err := p.run(ctx, b); err != nil {
			err = fmt.Errorf("%s: %w", p.name, errors.Join(err, b.autopsy()))
			b.report.line("error: %v", err)
			failed = append(failed, err)
		}
		b.report.line("(%.0f s; others took %.0f%% of the cores)", time.Since(start).Seconds(), 100*witness.Others())
		if ctx.Err() != nil {
			break
		}
	}
	b.report.goals(chosen)
	return errors.Join(append(failed, ctx.Err())...)
}

func names() string {
	var list []string
	for _, p := range parts {
		list = append(list, p.name)
	}
	return strings.Join(list, ", ")
}

// choose returns the parts named in a list; for an empty list all of them, but that which
// needs a ClickHouse only where there is one.
func choose(list string) ([]part, error) {
	if list == "" {
		return slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.name == "clickhouse" && os.Getenv(envClickHouse) == "" }), nil
	}
	var chosen []part
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no part %q; the parts are %s", name, names())
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}
