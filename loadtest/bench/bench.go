package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/machine"
	"sluice/loadtest/target"
	"sluice/loadtest/workload"
)

// bench is what the parts share. The server and the models are made when the
// first part asks for them.
type bench struct {
	short  bool
	report *report
	dir    string // temporary, removed at the end
	binary string
	models *workload.Models

	profiles string // folder for CPU profiles of the server; empty: none
	profiled int

	server *target.Sluice // on the benchmark models
}

func newBench(ctx context.Context, short bool, binary string, out io.Writer) (*bench, error) {
	if _, err := os.Stat("loadtest/models"); err != nil {
		return nil, fmt.Errorf("run it from the root of the repository: %w", err)
	}
	models, err := workload.Open(ctx, modelDir)
	if err != nil {
		return nil, err
	}
	b := &bench{
		short: short, binary: binary, models: models,
		report: &report{out: out, measured: map[string]float64{}},
	}
	if b.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return nil, err
	}
	if binary == "" {
		b.binary = filepath.Join(b.dir, "api")
		if err := target.BuildSluice(ctx, b.binary); err != nil {
			return nil, errors.Join(err, models.Close(), os.RemoveAll(b.dir))
		}
	}
	return b, nil
}

func (b *bench) close() error {
	var errs []error
	if b.server != nil {
		errs = append(errs, b.server.Stop())
	}
	return errors.Join(append(errs, b.models.Close(), os.RemoveAll(b.dir))...)
}

// autopsy returns the last words of a server that ended by itself, and forgets
// it, so that the next part starts another.
func (b *bench) autopsy() error {
	if b.server == nil {
		return nil
	}
	select {
	case <-b.server.Exited():
	case <-time.After(100 * time.Millisecond): // its connections end before it does
		return nil
	}
	err := fmt.Errorf("the server has ended: %s", b.server.Tail())
	b.server = nil
	return err
}

// start starts the server on a model repository, with further settings as
// variables of the environment, and waits until it is ready.
func (b *bench) start(ctx context.Context, name, repository, data string, env ...string) (*target.Sluice, error) {
	return target.StartSluice(ctx, target.Config{Binary: b.binary, Log: filepath.Join(b.dir, name+".log"), Data: data,
		Repository: repository, Env: append(env, "SLUICE_BENCH_NOOP=true")})
}

// workload makes requests for a model of the server and sends each once.
func (b *bench) workload(ctx context.Context, s *target.Sluice, name string, rows int, e load.Encoding) (*workload.Workload, error) {
	w, err := b.models.New(ctx, name, rows)
	if err != nil {
		return nil, err
	}
	return w, w.Address(s.HTTP, e)
}

// watch watches what others take of the machine beside this program and the
// server on the benchmark models, which the part may have yet to start.
func (b *bench) watch() machine.Witness {
	return machine.Watch(func() time.Duration {
		if b.server == nil {
			return 0
		}
		return usedBy(b.server)
	})
}

// aside watches what others take of the machine beside this program and a server.
func aside(s *target.Sluice) machine.Witness {
	return machine.Watch(func() time.Duration { return usedBy(s) })
}

// usedBy is the CPU time of a server, 0 of one that has ended: a Witness counts
// ended children by itself.
func usedBy(s *target.Sluice) time.Duration {
	cpu, _ := s.CPU()
	return cpu
}

// rounds is how often raw and served measurements alternate.
func (b *bench) rounds() int {
	if b.short {
		return 1
	}
	return 5
}

// span is how long one measurement takes that should take d in a full run.
func (b *bench) span(d time.Duration) time.Duration {
	if b.short {
		return max(d/5, 300*time.Millisecond)
	}
	return d
}

// median returns the middle of the values; the mean of both middles where
// their number is even.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// quantile returns the time, in milliseconds, that a share q of all does not exceed. It sorts them.
func quantile(times []time.Duration, q float64) float64 {
	slices.Sort(times)
	return millis(times[int(q*float64(len(times)-1))])
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
