// Package workload makes the requests of load tests: seeded inputs for a model,
// their right answers by ONNX Runtime called in this process, and the comparison
// of what a server answers with them.
//
// Limits: inputs are FP32 and INT64, outputs FP32, as in the models that are
// measured.
package workload

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

// Tokens is the extent of every input dimension that may vary beside the rows.
const Tokens = 64

// Workload is requests for one model, each with inputs of its own, and the
// answers that they must get.
type Workload struct {
	Model    string
	Baseline *Baseline
	Inputs   [][]tensor.Tensor // of each request
	Answers  [][]tensor.Tensor // that they must get
	Requests []*load.Request   // to an Open Inference Protocol server over HTTP; made by Address
}

// New makes inputs for a model and asks the runtime for the right answers.
func (m *Models) New(ctx context.Context, name string, rows int) (*Workload, error) {
	base, err := m.Baseline(ctx, name)
	if err != nil {
		return nil, err
	}
	w := &Workload{Model: name, Baseline: base}
	for i := range max(4, 16/rows) {
		inputs := Inputs(base.Signature.Inputs, rows, Tokens, uint64(i))
		want, err := base.Run(ctx, inputs, rows)
		if err != nil {
			return nil, err
		}
		for _, other := range w.Answers {
			if Compare(want, other) == nil {
				return nil, fmt.Errorf("model %s gives different inputs answers too alike to tell apart", name)
			}
		}
		w.Answers, w.Inputs = append(w.Answers, want), append(w.Inputs, inputs)
	}
	return w, nil
}

// Address makes the requests to a server, sends each once and checks its answer.
func (w *Workload) Address(addr string, e load.Encoding) error {
	w.Requests = nil
	for i, inputs := range w.Inputs {
		wire, err := load.Infer(addr, w.Model, inputs, e, 0)
		if err != nil {
			return err
		}
		w.Requests = append(w.Requests, &load.Request{Wire: wire, Check: Checker(w.Answers[i])})
	}
	pool, err := load.Dial(addr, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	return Verify(pool, w.Model, w.Requests)
}

// AddressGRPC makes the requests to a server over gRPC, for connections of load.GRPC. None is
// sent: answers are checked as they come.
func (w *Workload) AddressGRPC() error {
	w.Requests = nil
	for i, inputs := range w.Inputs {
		wire, err := load.InferMessage(w.Model, inputs)
		if err != nil {
			return err
		}
		w.Requests = append(w.Requests, &load.Request{Wire: wire, Check: CheckerOf(load.MessageOutputs, w.Answers[i])})
	}
	return nil
}

// Checker returns a check that an answer holds the outputs.
func Checker(want []tensor.Tensor) func(load.Answer) error { return CheckerOf(load.Outputs, want) }

// CheckerOf is Checker for answers in another form.
func CheckerOf(decode func(load.Answer) ([]tensor.Tensor, error), want []tensor.Tensor) func(load.Answer) error {
	return func(a load.Answer) error {
		got, err := decode(a)
		if err != nil {
			return err
		}
		return Compare(got, want)
	}
}

// Verify sends every request once and checks its answer.
func Verify(pool *load.Pool, name string, requests []*load.Request) error {
	for i, r := range requests {
		a, err := pool.One(r)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("status %d: %.300s", a.Status, a.Body)
		}
		if err == nil {
			err = r.Check(a)
		}
		if err != nil {
			return fmt.Errorf("model %s, request %d of %d: %w", name, i+1, len(requests), err)
		}
	}
	return nil
}

// Inputs returns seeded random data: normal floats, printable bytes as
// tokens, and masks that hide nothing. What may vary beside the rows has the
// extent tokens.
func Inputs(ports []model.Port, rows, tokens int, seed uint64) []tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 0x62656e6368)) // #nosec G404 -- reproducible inputs, no secret
	var inputs []tensor.Tensor
	for _, p := range ports {
		t := tensor.Tensor{Name: p.Name, Datatype: p.Datatype, Shape: append(tensor.Shape(nil), p.Shape...)}
		n := 1
		for d, extent := range t.Shape {
			if d == 0 {
				t.Shape[d] = int64(rows)
			} else if extent < 0 {
				t.Shape[d] = int64(tokens)
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

// Compare reports how got differs from want, nil if it does not.
func Compare(got, want []tensor.Tensor) error {
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
