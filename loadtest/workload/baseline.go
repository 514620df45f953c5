package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx"
	"sluice/internal/inference/tensor"
	"sluice/loadtest/load"
)

// Models are the models of a load test on ONNX Runtime in this process. One
// goroutine uses them.
type Models struct {
	engine engine.Engine
	folder func(name string) string
	opened map[string]*Baseline
}

// Open opens the runtime. Folder says where a model of a name is.
func Open(ctx context.Context, folder func(name string) string) (*Models, error) {
	library, err := ortlib.Locate(ctx, ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
	if err != nil {
		return nil, err
	}
	eng, err := ortengine.Open(library)
	if err != nil {
		return nil, err
	}
	return &Models{eng, folder, map[string]*Baseline{}}, nil
}

// Runtime names the runtime and its version.
func (m *Models) Runtime() string { return m.engine.Version() }

// Close frees the models.
func (m *Models) Close() error {
	var errs []error
	for _, b := range m.opened {
		errs = append(errs, b.session.Close())
	}
	return errors.Join(errs...)
}

// Baseline is a model on ONNX Runtime in this process: no server, no batcher,
// no wire. It says what the computation itself costs, and what answers must be.
type Baseline struct {
	Signature model.Signature
	session   engine.Session
}

// maxBaselineRows is the most rows of one run.
const maxBaselineRows = 512

// Baseline returns the named model, opening it at the first call.
func (m *Models) Baseline(ctx context.Context, name string) (*Baseline, error) {
	if b := m.opened[name]; b != nil {
		return b, nil
	}
	data, err := os.ReadFile(filepath.Join(m.folder(name), "1", model.DefaultFilename))
	if err != nil {
		return nil, err
	}
	inspected, err := onnx.Inspect(data, onnx.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	b := &Baseline{Signature: inspected.Signature}
	b.session, err = m.engine.Open(ctx, engine.Spec{
		Name: name, Data: data, Signature: &b.Signature, Batches: true, MaxRows: maxBaselineRows,
	})
	if err != nil {
		return nil, err
	}
	m.opened[name] = b
	return b, nil
}

// Run returns the outputs for the inputs, in memory of their own.
func (b *Baseline) Run(ctx context.Context, inputs []tensor.Tensor, rows int) ([]tensor.Tensor, error) {
	part := &engine.Part{Inputs: inputs, Rows: rows}
	if err := b.session.Run(ctx, []*engine.Part{part}); err != nil {
		return nil, err
	}
	var outputs []tensor.Tensor
	for i, o := range part.Outputs {
		outputs = append(outputs, tensor.Tensor{
			Name: b.Signature.Outputs[i].Name, Datatype: o.Datatype,
			Shape: append(tensor.Shape(nil), o.Shape...), Data: append([]byte(nil), o.Data...),
		})
	}
	part.Slab.Release()
	return outputs, nil
}

// Cost is what runs of the runtime took.
type Cost struct {
	PerRow  time.Duration   // CPU time
	Latency *load.Histogram // of one run, on the clock
}

// Measure runs the model on the inputs in a few goroutines for a while.
func (b *Baseline) Measure(ctx context.Context, inputs []tensor.Tensor, rows, goroutines int, d time.Duration) (Cost, error) {
	before, err := load.ProcessCPU(os.Getpid())
	if err != nil {
		return Cost{}, err
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total load.Histogram
	)
	end := time.Now().Add(d)
	for range goroutines {
		wg.Go(func() {
			hist, runErr := b.loop(ctx, inputs, rows, end)
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
		return Cost{}, err
	}
	after, err := load.ProcessCPU(os.Getpid())
	return Cost{(after - before) / time.Duration(total.Count()*uint64(rows)), &total}, err
}

// loop runs the model until the end and times every run.
func (b *Baseline) loop(ctx context.Context, inputs []tensor.Tensor, rows int, end time.Time) (*load.Histogram, error) {
	hist := new(load.Histogram)
	part := &engine.Part{}
	for at := time.Now(); at.Before(end); {
		part.Reset()
		part.Inputs, part.Rows = append(part.Inputs, inputs...), rows
		if err := b.session.Run(ctx, []*engine.Part{part}); err != nil {
			return hist, err
		}
		now := time.Now()
		hist.Record(now.Sub(at))
		at = now
	}
	part.Reset()
	return hist, nil
}
