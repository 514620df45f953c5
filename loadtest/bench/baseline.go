package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx"
	"sluice/internal/inference/tensor"
	"sluice/loadtest/load"
)

// baseline is a model on ONNX Runtime in this process: no server, no batcher,
// no wire. It says what the computation itself costs, and what answers must be.
type baseline struct {
	name    string
	sig     model.Signature
	session engine.Session
}

// maxBaselineRows is the most rows of one run.
const maxBaselineRows = 64

// baseline returns the named benchmark model, opening it at the first call.
func (b *bench) baseline(ctx context.Context, name string) (*baseline, error) {
	if m := b.baselines[name]; m != nil {
		return m, nil
	}
	data, err := os.ReadFile(filepath.Join(modelDir(name), "1", model.DefaultFilename))
	if err != nil {
		return nil, err
	}
	inspected, err := onnx.Inspect(data, onnx.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	m := &baseline{name: name, sig: inspected.Signature}
	m.session, err = b.engine.Open(ctx, engine.Spec{
		Name: name, Data: data, Signature: &m.sig, Batches: true, MaxRows: maxBaselineRows,
	})
	if err != nil {
		return nil, err
	}
	b.baselines[name] = m
	return m, nil
}

// run returns the outputs for the inputs, in memory of their own.
func (m *baseline) run(ctx context.Context, inputs []tensor.Tensor, rows int) ([]tensor.Tensor, error) {
	part := &engine.Part{Inputs: inputs, Rows: rows}
	if err := m.session.Run(ctx, []*engine.Part{part}); err != nil {
		return nil, err
	}
	var outputs []tensor.Tensor
	for i, o := range part.Outputs {
		outputs = append(outputs, tensor.Tensor{
			Name: m.sig.Outputs[i].Name, Datatype: o.Datatype,
			Shape: append(tensor.Shape(nil), o.Shape...), Data: append([]byte(nil), o.Data...),
		})
	}
	part.Slab.Release()
	return outputs, nil
}

// cost is what runs of the runtime took.
type cost struct {
	perRow time.Duration // CPU time
	median time.Duration // of one run, on the clock
}

// measure runs the model on the inputs in a few goroutines for a while.
func (m *baseline) measure(ctx context.Context, inputs []tensor.Tensor, rows, goroutines int, d time.Duration) (cost, error) {
	before, err := load.ProcessCPU(os.Getpid())
	if err != nil {
		return cost{}, err
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total load.Histogram
	)
	end := time.Now().Add(d)
	for range goroutines {
		wg.Go(func() {
			hist, runErr := m.loop(ctx, inputs, rows, end)
			mu.Lock()
			defer mu.Unlock()
			total.Add(hist)
			if runErr != nil {
				err = runErr
			}
		})
	}
	wg.Wait()
	if err != nil {
		return cost{}, err
	}
	after, err := load.ProcessCPU(os.Getpid())
	return cost{(after - before) / time.Duration(total.Count()*uint64(rows)), total.Quantile(0.5)}, err
}

// loop runs the model until the end and times every run.
func (m *baseline) loop(ctx context.Context, inputs []tensor.Tensor, rows int, end time.Time) (*load.Histogram, error) {
	hist := new(load.Histogram)
	part := &engine.Part{}
	for at := time.Now(); at.Before(end); {
		part.Reset()
		part.Inputs, part.Rows = append(part.Inputs, inputs...), rows
		if err := m.session.Run(ctx, []*engine.Part{part}); err != nil {
			return hist, err
		}
		now := time.Now()
		hist.Record(now.Sub(at))
		at = now
	}
	part.Reset()
	return hist, nil
}
