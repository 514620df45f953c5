package probe_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
)

// fake is a model of x INT64 [batch, 1] to y FP32 [batch, 1], given by what it
// answers to a whole batch and how long it takes; no answer is a failure.
type fake func(x []int64) (y []float32, took time.Duration)

func (f fake) Close() error { return nil }

func (f fake) Run(ctx context.Context, parts []*engine.Part) error {
	var x []int64
	for _, p := range parts {
		x = append(x, int64(binary.LittleEndian.Uint64(p.Inputs[0].Data)))
	}
	y, took := f(x)
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(y) < len(x) {
		return errors.New("the model fails")
	}
	for i, p := range parts {
		p.Outputs = append(p.Outputs, tensor.Tensor{Name: "y", Datatype: tensor.FP32, Shape: tensor.Shape{1, 1},
			Data: binary.LittleEndian.AppendUint32(nil, math.Float32bits(y[i]))})
	}
	return nil
}

func (f fake) spec(maxRows int) engine.Spec {
	port := func(name string, d tensor.Datatype) []model.Port {
		return []model.Port{{Name: name, Datatype: d, Shape: tensor.Shape{-1, 1}}}
	}
	return engine.Spec{Name: "fake", Batches: true, MaxRows: maxRows,
		Signature: &model.Signature{Inputs: port("x", tensor.Int64), Outputs: port("y", tensor.FP32)}}
}

func each(answer func(x int64) float32) func([]int64) []float32 {
	return func(x []int64) []float32 {
		y := make([]float32, len(x))
		for i := range x {
			y[i] = answer(x[i])
		}
		return y
	}
}

func TestInvarianceOfOddModels(t *testing.T) {
	echo := each(func(x int64) float32 { return float32(x) })
	for _, c := range []struct {
		name  string
		model fake
		rows  int
		want  string // in the reason
		took  time.Duration
	}{
		{"quick", func(x []int64) ([]float32, time.Duration) { return echo(x), 10 * time.Microsecond }, 8, "rows answer alike", 300 * time.Millisecond},
		{"two rows", func(x []int64) ([]float32, time.Duration) { return echo(x), 10 * time.Microsecond }, 2, "rows answer alike", 300 * time.Millisecond},
		{"an integer that takes for ever", func(x []int64) ([]float32, time.Duration) {
			for _, v := range x {
				if v > 100 {
					return echo(x), time.Hour
				}
			}
			return echo(x), time.Millisecond
		}, 8, "rows answer alike", 2 * time.Second},
		{"hours for any row", func(x []int64) ([]float32, time.Duration) { return echo(x), time.Hour }, 8, "not established", 21 * time.Second},
		{"seconds for a row", func(x []int64) ([]float32, time.Duration) { return echo(x), time.Duration(len(x)) * time.Second }, 8, "not established", 21 * time.Second},
		{"infinite only alone", func(x []int64) ([]float32, time.Duration) {
			if len(x) == 1 {
				return []float32{float32(math.Inf(1))}, 0
			}
			return echo(x), 0
		}, 8, "answer changes", time.Second},
		{"the last row knows the others", func(x []int64) ([]float32, time.Duration) {
			y := echo(x)
			for _, v := range x {
				y[len(x)-1] = max(y[len(x)-1], float32(v))
			}
			return y, 0
		}, 8, "answer changes", time.Second},
		{"large batches only", func(x []int64) ([]float32, time.Duration) {
			if len(x) > 8 {
				return make([]float32, len(x)), 0
			}
			return echo(x), 0
		}, 64, "answer changes when it runs in a large batch", time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r := probe.Invariance(t.Context(), c.model, c.model.spec(c.rows))
				if !strings.Contains(r.Reason, c.want) || r.Invariant != (c.want == "rows answer alike") {
					t.Errorf("%+v, want %q", r, c.want)
				}
				if took := time.Since(began); took > c.took {
					t.Errorf("it took %v, want at most %v", took, c.took)
				}
			})
		})
	}
}
