package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
)

// bench is what the parts share. The server and the models are made when the
// first part asks for them.
type bench struct {
	short  bool
	report *report
	dir    string // temporary, removed at the end
	binary string
	engine engine.Engine

	profiles string // folder for CPU profiles of the server; empty: none
	profiled int

	server    *server // on the benchmark models
	baselines map[string]*baseline
}

func newBench(ctx context.Context, short bool, binary string, out io.Writer) (*bench, error) {
	if _, err := os.Stat("loadtest/models"); err != nil {
		return nil, fmt.Errorf("run it from the root of the repository: %w", err)
	}
	library, err := ortlib.Locate(ctx, ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
	if err != nil {
		return nil, err
	}
	eng, err := ortengine.Open(library)
	if err != nil {
		return nil, err
	}
	b := &bench{
		short: short, binary: binary, engine: eng,
		report:    &report{out: out, measured: map[string]float64{}},
		baselines: map[string]*baseline{},
	}
	if b.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return nil, err
	}
	if binary == "" {
		b.binary = filepath.Join(b.dir, "api")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", b.binary, "./cmd/api") // #nosec G204 -- fixed but for the temporary folder
		if text, err := build.CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("go build ./cmd/api: %w\n%s", err, text), os.RemoveAll(b.dir))
		}
	}
	return b, nil
}

func (b *bench) close() error {
	var errs []error
	if b.server != nil {
		errs = append(errs, b.server.stop())
	}
	for _, m := range b.baselines {
		errs = append(errs, m.session.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// autopsy returns the last words of a server that ended by itself, and forgets
// it, so that the next part starts another.
func (b *bench) autopsy() error {
	if b.server == nil {
		return nil
	}
	select {
	case <-b.server.exited:
	case <-time.After(100 * time.Millisecond): // its connections end before it does
		return nil
	}
	err := fmt.Errorf("the server has ended: %s", tail(b.server.log, b.server.err))
	b.server = nil
	return err
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

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
