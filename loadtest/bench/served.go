package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/target"
)

// served is what a closed loop cost the server.
type served struct {
	*load.Result
	cpu       time.Duration // of the server
	generator time.Duration // CPU time of this process
	batch     float64       // mean rows in a run
}

// perRequest returns the server's CPU time for one answer.
func (s served) perRequest() time.Duration { return s.cpu / time.Duration(max(s.OK, 1)) }

// perCPU returns the answers per second of CPU time, the generator's included.
func (s served) perCPU() float64 { return float64(s.OK) / (s.cpu + s.generator).Seconds() }

// backoff is what a refused connection waits: a loop that asks again at once
// would measure what refusals cost.
const backoff = 20 * time.Millisecond

// serve keeps the pool busy with the load for d, after some warming up, and
// measures the server meanwhile. A failed request is an error. The model, if
// any, is the one whose batches are looked at.
func (b *bench) serve(ctx context.Context, s *target.Sluice, pool *load.Pool, l load.Load, model string, d time.Duration) (served, error) {
	l.Backoff = backoff
	if err := failures(pool.Closed(ctx, l, max(d/8, 200*time.Millisecond))); err != nil {
		return served{}, err
	}
	var out served
	metricsBefore, err := s.Metrics(ctx)
	if err != nil {
		return out, err
	}
	ownBefore, before, err := bothCPU(s)
	if err != nil {
		return out, err
	}
	profile := b.profile(ctx, s, model, d)
	out.Result = pool.Closed(ctx, l, d)
	ownAfter, after, err := bothCPU(s)
	if err != nil {
		return out, err
	}
	if err := profile(); err != nil {
		return out, err
	}
	out.cpu, out.generator = after-before, ownAfter-ownBefore
	metricsAfter, err := s.Metrics(ctx)
	if err != nil {
		return out, err
	}
	label := `model="` + model + `"`
	rows := metricsAfter.Sum("nv_inference_count", label) - metricsBefore.Sum("nv_inference_count", label)
	runs := metricsAfter.Sum("nv_inference_exec_count", label) - metricsBefore.Sum("nv_inference_exec_count", label)
	if runs > 0 {
		out.batch = rows / runs
	}
	return out, failures(out.Result)
}

// bothCPU returns the CPU time that this process and the server have used.
func bothCPU(s *target.Sluice) (own, served time.Duration, err error) {
	if own, err = load.ProcessCPU(os.Getpid()); err != nil {
		return 0, 0, err
	}
	served, err = s.CPU()
	return own, served, err
}

// failures returns the error of a run in which a request failed or none
// succeeded.
func failures(r *load.Result) error {
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed, the first: %w", r.Failed, r.OK+r.Refused+r.Failed, r.Err)
	}
	if r.OK == 0 {
		return errors.New("the server refused every request")
	}
	return nil
}

// profile records a CPU profile of the server for about d, where -profile asks
// for it. The function that it returns waits for it.
func (b *bench) profile(ctx context.Context, s *target.Sluice, model string, d time.Duration) (wait func() error) {
	if b.profiles == "" {
		return func() error { return nil }
	}
	b.profiled++
	path := filepath.Join(b.profiles, fmt.Sprintf("%02d-%s.pprof", b.profiled, cmp.Or(model, "noop")))
	done := make(chan error, 1)
	go func() {
		text, err := s.Get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", min(max(1, int(d.Seconds())), 8)))
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		done <- err
	}()
	return func() error { return <-done }
}
