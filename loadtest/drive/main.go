// Command drive runs load tests that are described in files, and fails where
// something that they assert does not hold.
//
//	go run ./loadtest/drive [-short] [-out folder] [scenario.yaml]...
//	go run ./loadtest/drive -against folder [-out other] [scenario.yaml]...
//	go run ./loadtest/drive -url 127.0.0.1:8000 [-grpc 127.0.0.1:8001] loadtest/scenarios/samples.yaml
//
// Without files it runs all of loadtest/scenarios. It starts the server itself,
// on free loopback ports with temporary data, or drives any server of the Open
// Inference Protocol that -url names. Reports with pictures go to
// loadtest/results. What a scenario may say: docs/PERFORMANCE.md and package
// scenario.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/scenario"
	"sluice/loadtest/target"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drive:", err)
		os.Exit(1)
	}
}

// part is what -short leaves of every phase's time.
const part = 0.4

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("drive", flag.ContinueOnError)
	o := scenario.Options{Log: out, ModelDir: modelDir}
	flags.StringVar(&o.HTTP, "url", "", "loopback address of a server that is there, such as 127.0.0.1:8000; empty starts ours")
	flags.StringVar(&o.GRPC, "grpc", "", "its address for gRPC")
	flags.StringVar(&o.Binary, "server", "", "the binary of ours; empty builds ./cmd/api")
	flags.Uint64Var(&o.Seed, "seed", 1, "of arrivals")
	short := flags.Bool("short", false, "take two fifths of the time: figures are rough")
	against := flags.String("against", "", "folder of earlier reports, whose rates and arrivals are repeated and whose figures are compared")
	results := flags.String("out", filepath.Join("loadtest", "results"), "folder for reports")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil // it was told
	} else if err != nil {
		return err
	}
	o.Key = os.Getenv("SLUICE_CLIENT_KEY")
	if err := addresses(&o); err != nil {
		return err
	}
	files := flags.Args()
	if len(files) == 0 {
		if files, err = filepath.Glob(filepath.Join("loadtest", "scenarios", "*.yaml")); err != nil || len(files) == 0 {
			return errors.Join(errors.New("there is no scenario: run it from the root of the repository, or name files"), err)
		}
	}
	f := folders{results: *results, against: *against}
	scenarios, err := read(files, *short)
	if err != nil {
		return err
	}
	if err := f.check(scenarios, o); err != nil { // before minutes are spent
		return err
	}
	dir, err := os.MkdirTemp("", "sluice-drive-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.Binary == "" && o.HTTP == "" {
		o.Binary = filepath.Join(dir, "api")
		if err := target.BuildSluice(ctx, o.Binary); err != nil {
			return err
		}
	}
	f.work = dir
	return all(ctx, scenarios, o, f, out)
}

// addresses brings where requests go to into the form HOST:PORT, and checks it.
func addresses(o *scenario.Options) error {
	switch {
	case o.HTTP == "" && o.GRPC != "":
		return errors.New("-grpc is the second address of a server that -url names: name that, too")
	case o.HTTP == "":
		return nil
	case o.Binary != "":
		return errors.New("-server is started, and -url is there already: name one of them")
	}
	for name, addr := range map[string]*string{"-url": &o.HTTP, "-grpc": &o.GRPC} {
		if strings.HasPrefix(*addr, "https://") {
			return fmt.Errorf("%s %s: there is no TLS here: name an address of the server that speaks plain HTTP, such as 127.0.0.1:8000", name, *addr)
		}
		*addr = strings.TrimSuffix(strings.TrimPrefix(*addr, "http://"), "/")
		if port, ok := strings.CutPrefix(*addr, "localhost:"); ok {
			*addr = "127.0.0.1:" + port
		}
		if *addr == "" {
			continue
		}
		if _, err := load.NewBalancer(*addr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// read reads all scenarios, of which each has a name, and so reports, of its own.
func read(files []string, short bool) ([]*scenario.Scenario, error) {
	scenarios, from := make([]*scenario.Scenario, len(files)), map[string]string{}
	for i, file := range files {
		s, err := scenario.Read(file)
		if err != nil {
			return nil, err
		}
		if other, ok := from[s.Name]; ok {
			return nil, fmt.Errorf("%s and %s are both named %s, and would have the same report", other, file, s.Name)
		}
		if short {
			s.Shorten(part)
		}
		scenarios[i], from[s.Name] = s, file
	}
	return scenarios, nil
}

// folders are where runs have their files, reports go to, and earlier ones are, if any.
type folders struct{ work, results, against string }

// check fails where a scenario cannot be run, reports cannot be written, or there is nothing to compare them with.
func (f folders) check(scenarios []*scenario.Scenario, o scenario.Options) error {
	if err := os.MkdirAll(f.results, 0o750); err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	probe, err := os.CreateTemp(f.results, ".probe-")
	if err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	var wrong []error // all of them, so that they are left out or mended at once
	for _, s := range scenarios {
		wrong = append(wrong, s.Fits(o))
		before, err := earlier(f.against, s.Name)
		if err == nil && before != nil {
			err = s.Comparable(before)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("-against: %w", err))
		}
	}
	return errors.Join(wrong...)
}

// all runs the scenarios one after the other; one that fails does not keep the
// next from running.
func all(ctx context.Context, scenarios []*scenario.Scenario, o scenario.Options, f folders, out io.Writer) error {
	var failed []error
	var lines strings.Builder
	for _, s := range scenarios {
		fmt.Fprintf(out, "== %s\n", s.Name)
		o.Folder = filepath.Join(f.work, s.Name)
		if err := os.MkdirAll(o.Folder, 0o750); err != nil {
			return err
		}
		before, err := earlier(f.against, s.Name)
		if err != nil {
			return fmt.Errorf("-against: %w", err)
		}
		if before != nil { // it is repeated as it was
			o.Capacity, o.Seed = before.Capacity, before.Seed
		}
		began := time.Now()
		report, err := scenario.Run(ctx, s, o)
		if report != nil {
			err = errors.Join(err, report.Write(f.results))
			lines.WriteString(report.Lines())
			fmt.Fprintf(out, "%s", report.Lines())
			if !report.Holds() {
				err = errors.Join(err, errors.New("not everything holds"))
			}
			if before != nil {
				err = errors.Join(err, compare(report, before, out))
			}
			fmt.Fprintf(out, "(%.0f s; others took %.0f%% of the cores; %s)\n", time.Since(began).Seconds(), 100*report.Others, filepath.Join(f.results, s.Name+".md"))
		}
		if err != nil {
			fmt.Fprintf(out, "error: %s: %v\n", s.Name, err)
			failed = append(failed, fmt.Errorf("%s: %w", s.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Fprintf(out, "\n%s", lines.String())
	return errors.Join(append(failed, ctx.Err())...)
}

// earlier reads the report that a scenario is compared with; nil: it is compared with none.
func earlier(folder, name string) (*scenario.Report, error) {
	if folder == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	return scenario.ReadReport(folder, name)
}

// compare says which figures of two runs agree, and fails where some do not or none can be compared.
func compare(now, before *scenario.Report, out io.Writer) error {
	list := now.Compare(before)
	differ := 0
	for _, c := range list {
		if fmt.Fprintln(out, c); !c.Agree() {
			differ++
		}
	}
	switch {
	case len(list) == 0:
		return errors.New("-against: no phase of both is as long, and long enough to have a spread")
	case differ > 0:
		return fmt.Errorf("-against: %d of %d figures differ by more than their spreads", differ, len(list))
	}
	return nil
}

// modelDir is where the repository keeps a model: those for load tests first.
func modelDir(name string) string {
	own := filepath.Join("loadtest", "models", name)
	if _, err := os.Stat(own); err == nil {
		return own
	}
	return filepath.Join("models", name)
}
