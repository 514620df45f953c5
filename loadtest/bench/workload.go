package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/loadtest/load"
)

// tokens is the extent of every input dimension that may vary beside the rows.
const tokens = 64

// workload is requests for one model, each with inputs of its own, and the
// answers that they must get.
type workload struct {
	model    string
	rows     int // of each request
	baseline *baseline
	inputs   [][]tensor.Tensor // of each request
	requests []*load.Request
}

// workload makes requests for a model of the server, asks the runtime for the
// right answers, and sends each request once to compare.
func (b *bench) workload(ctx context.Context, s *server, name string, rows int, e load.Encoding) (*workload, error) {
	base, err := b.baseline(ctx, name)
	if err != nil {
		return nil, err
	}
	w := &workload{model: name, rows: rows, baseline: base}
	var answers [][]tensor.Tensor
	for i := range max(4, 16/rows) {
		inputs := makeInputs(base.sig.Inputs, rows, uint64(i))
		want, err := base.run(ctx, inputs, rows)
		if err != nil {
			return nil, err
		}
		for _, other := range answers {
			if sameOutputs(want, other) == nil {
				return nil, fmt.Errorf("model %s gives different inputs answers too alike to tell apart", name)
			}
		}
		wire, err := load.Infer(s.addr, name, inputs, e, 0)
		if err != nil {
			return nil, err
		}
		answers = append(answers, want)
		w.inputs = append(w.inputs, inputs)
		w.requests = append(w.requests, &load.Request{Wire: wire, Check: checker(want)})
	}
	return w, w.verify(s)
}

// checker returns a check that an answer holds the outputs.
func checker(want []tensor.Tensor) func(load.Answer) error {
	return func(a load.Answer) error {
		got, err := load.Outputs(a)
		if err != nil {
			return err
		}
		return sameOutputs(got, want)
	}
}

// verify sends every request once and checks its answer.
func (w *workload) verify(s *server) error {
	pool, err := load.Dial(s.addr, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	for i, r := range w.requests {
		a, err := pool.One(r)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("status %d: %.300s", a.Status, a.Body)
		}
		if err == nil {
			err = r.Check(a)
		}
		if err != nil {
			return fmt.Errorf("model %s, request %d of %d: %w", w.model, i+1, len(w.requests), err)
		}
	}
	return nil
}

// makeInputs returns seeded random data: normal floats, printable bytes as
// tokens, and masks that hide nothing.
func makeInputs(ports []model.Port, rows int, seed uint64) []tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 0x62656e6368)) // #nosec G404 -- reproducible inputs, no secret
	var inputs []tensor.Tensor
	for _, p := range ports {
		t := tensor.Tensor{Name: p.Name, Datatype: p.Datatype, Shape: append(tensor.Shape(nil), p.Shape...)}
		n := 1
		for d, extent := range t.Shape {
			if d == 0 {
				t.Shape[d] = int64(rows)
			} else if extent < 0 {
				t.Shape[d] = tokens
			}
			n *= int(t.Shape[d])
		}
		for range n {
			switch {
			case p.Datatype == tensor.FP32:
				t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(float32(rng.NormFloat64())))
			case p.Name == "attention_mask":
				t.Data = binary.LittleEndian.AppendUint64(t.Data, 1)
			default:
				t.Data = binary.LittleEndian.AppendUint64(t.Data, ' '+rng.Uint64N(95))
			}
		}
		inputs = append(inputs, t)
	}
	return inputs
}

// tolerance is how far an answer may be off, absolutely and relatively: in a
// batch of another size the runtime sums in another order.
const tolerance = 1e-4

// sameOutputs reports how got differs from want, nil if it does not.
func sameOutputs(got, want []tensor.Tensor) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d outputs, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Name != w.Name || g.Datatype != w.Datatype || !g.Shape.Equal(w.Shape) {
			return fmt.Errorf("output %s %s%s, want %s %s%s", g.Name, g.Datatype, g.Shape, w.Name, w.Datatype, w.Shape)
		}
		if w.Datatype != tensor.FP32 {
			return fmt.Errorf("output %s is %s; only FP32 can be compared", w.Name, w.Datatype)
		}
		for at := 0; at+4 <= len(w.Data); at += 4 {
			x, y := float(g.Data[at:]), float(w.Data[at:])
			if !(math.Abs(x-y) <= tolerance*(1+math.Abs(y))) { // NaN differs too
				return fmt.Errorf("output %s, element %d: %v, want %v", w.Name, at/4, x, y)
			}
		}
	}
	return nil
}

func float(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) }
