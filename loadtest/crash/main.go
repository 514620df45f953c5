// Command crash hurts the real program in every way that must not matter, and
// then reads the stores to see whether it did.
//
//	go run ./loadtest/crash -long             everything, about an hour
//	go run ./loadtest/crash                   the short form, for CI
//	go run ./loadtest/crash -only killed -seed 7
//	go run ./loadtest/crash -selftest         defects are built in; each must be found
//
// Clients send commands over HTTP, again with the same Idempotency-Key on any
// doubt, and write down what they were told. After each scenario the stores are
// read without the program: nothing acknowledged may be missing, nothing may be
// done twice or by half, events must be whole and in order, and the audit log
// must verify and tell of everything.
//
// The scenario jobs does the same to durable predictions: clients with keys,
// cancellations, deadlines and poison, against an API, two workers and a queue's
// server of their own, which are killed at random times and at the points where an
// effect is there and what tells of it is not. What is left is judged by a program
// of its own, loadtest/jobcheck, which has the results computed again.
//
// The scenario batches has files of rows answered, and exports written, by such
// processes, which are killed meanwhile: what comes of it must be what an undisturbed
// run leaves, byte for byte, with one chunk at most run again for each process that was
// killed, and no object that nothing names.
//
// The seed decides what is done and when the program is killed; how far the
// program has come by then is up to the machine. Limits: a killed process loses
// no page cache, so losses of power are not tested here.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/crash/overlay"
)

// scenario is one way to hurt.
type scenario struct {
	name string
	run  func(context.Context, *settings) error
	// services says that it needs the servers of `make services`, and runs only
	// where it is asked for.
	services bool
	builds   bool // the programs that it hurts itself
}

var scenarios = []scenario{
	{name: "killed", run: killed},
	{name: "queue", run: queueStopped},
	{name: "disk", run: diskFull},
	{name: "relays", run: relays},
	{name: "jobs", run: jobs, builds: true},
	{name: "batches", run: batches, builds: true},
	{name: "services", run: services, services: true},
}

func main() {
	s := &settings{out: os.Stdout}
	flag.BoolVar(&s.long, "long", false, "the long form")
	flag.Uint64Var(&s.seed, "seed", 0, "what a run printed, to have its schedule again; 0 makes one")
	flag.StringVar(&s.dir, "dir", "", "folder for data and logs; empty makes one, and removes it where all is well")
	flag.BoolVar(&s.keep, "keep", false, "keep the folder in any case")
	flag.BoolVar(&s.selftest, "selftest", false, "build defects in, and fail unless each is found")
	only := flag.String("only", "", "scenarios, or parts of the names of defects, separated by commas; empty runs all that need no services")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "crash: %q is no flag, and what follows it would not be read: scenarios are named by -only\n", flag.Arg(0))
		os.Exit(2)
	}
	if s.seed == 0 {
		s.seed = rand.Uint64N(1 << 32)
	}
	fmt.Printf("seed %d\n", s.seed)
	if *only != "" {
		s.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

// run prepares, and runs the scenarios that were asked for.
func run(ctx context.Context, s *settings) (err error) {
	made := s.dir == ""
	if made {
		if s.dir, err = os.MkdirTemp("", "sluice-crash-"); err != nil {
			return err
		}
	}
	hurt := s.all
	if s.selftest {
		hurt = func(ctx context.Context) error { return selftest(ctx, s) }
	}
	if err := hurt(ctx); err != nil || !made || s.keep {
		return err
	}
	return os.RemoveAll(s.dir)
}

// build builds programs with what is changed in them, and returns the folder that
// they are in.
func (s *settings) build(ctx context.Context, changes *overlay.Overlay, packages ...string) (bin string, err error) {
	bin = filepath.Join(s.dir, "bin")
	args := []string{"build"}
	if changes != nil {
		bin += "-changed"
		if err := os.MkdirAll(bin, 0o755); err != nil {
			return "", err
		}
		list, err := changes.Write(bin)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", list)
	}
	args = slices.Concat(args, []string{"-o", bin + "/"}, packages)
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return bin, nil
}

// programs builds the programs that are hurt, with the changes of the self-test.
func (s *settings) programs(ctx context.Context) error {
	bin, err := s.build(ctx, s.changes, "./cmd/...")
	s.api, s.worker = filepath.Join(bin, "api"), filepath.Join(bin, "worker")
	return err
}

func (s *settings) all(ctx context.Context) error {
	var failed []string
	ran := 0
	for _, sc := range scenarios {
		if wanted := slices.Contains(s.only, sc.name); !wanted && (len(s.only) > 0 || sc.services) {
			continue
		}
		if s.api == "" && !sc.builds {
			if err := s.programs(ctx); err != nil {
				return err
			}
		}
		ran++
		began := time.Now()
		err := sc.run(ctx, s)
		outcome := "ok"
		if err != nil {
			outcome = "FAILED: " + err.Error()
			failed = append(failed, sc.name)
		}
		fmt.Fprintf(s.out, "%-9s %s (%.0f s)\n", sc.name, outcome, time.Since(began).Seconds())
	}
	switch {
	case ran == 0:
		return fmt.Errorf("no scenario is called %s", strings.Join(s.only, " or "))
	case len(failed) > 0:
		return fmt.Errorf("%s failed with seed %d; data and logs are in %s", strings.Join(failed, ", "), s.seed, s.dir)
	}
	return nil
}
