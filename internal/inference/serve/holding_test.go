package serve_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// accounted is a request with an account of its memory, which notes what it holds when it
// is answered.
type accounted struct {
	*request
	account budget.Account
	held    int64
}

// Account implements serve.Holding.
func (a *accounted) Account() *budget.Account { return &a.account }

// Encode implements serve.Codec.
func (a *accounted) Encode(ctx context.Context, v *serve.Version, r *serve.Response) error {
	a.held = a.account.Held()
	return a.request.Encode(ctx, v, r)
}

const branches = `
inputs: [x]
outputs: [a, b]
nodes:
  - name: both
    parallel:
      - {name: first, model: id, inputs: {in_fp32: x}, outputs: {out_fp32: a}}
      - {name: second, model: inner, outputs: {y: b}}
`

// What nodes make counts in the account of the request, of graphs within, too; where that is
// full the request is refused, and afterwards nothing is held. A request that is alone gets
// what it needs.
func TestGraphsCountWhatTheyMake(t *testing.T) {
	f := newFixture(t, serve.Config{}, map[string][]byte{"id/1/model.onnx": identity(), "inner/1/graph.yaml": []byte(pipeline), "g/1/graph.yaml": []byte(branches)})
	ask := func(b *budget.Budget) (*accounted, error) {
		r := &accounted{request: &request{model: "g", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 8, 1)}}}, account: b.Account()}
		err := f.Predict(t.Context(), r)
		if n := r.account.Held(); n != 0 {
			t.Errorf("%d bytes are held once it is answered", n)
		}
		return r, err
	}
	small := budget.New(1, "http.max_held")
	if r, err := ask(small); err != nil || r.held < 2*8*4*4 {
		t.Errorf("alone: %v, %d bytes held", err, r.held)
	}
	other := small.Account()
	if err := other.Acquire(1); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(small); !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != budget.Code || !strings.Contains(err.Error(), "node '") {
		t.Errorf("beside another: %v", err)
	}
	own := budget.New(1, "work")
	f.HoldIn(own)
	mine := own.Account()
	if err := mine.Acquire(1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ask("g", "", "x", 8, 1); fault.CodeOf(err) != budget.Code || own.Held() != 1 {
		t.Errorf("without an account of its own: %v, %d held", err, own.Held())
	}
	mine.Release()
	if _, err := f.ask("g", "", "x", 8, 1); err != nil || own.Held() != 0 {
		t.Errorf("%v, %d held", err, own.Held())
	}
}

// A graph whose models do not fit into memory together answers all the same: they come and go
// while it runs, and what it is about to need goes last.
func TestGraphOfModelsThatMakeRoom(t *testing.T) {
	data := onnxtest.MLP(1, 4, 256, 256, 4)
	f := newFixture(t, serve.Config{LoadWait: time.Minute, Memory: int64(len(data))*2 - 1}, nil)
	f.running()
	s := &shelf{}
	nodes := "inputs: [x]\noutputs: [y3]\nnodes:\n"
	for n := range int64(3) {
		f.Offer(t.Context(), fmt.Sprint("m", n+1), []serve.Offer{s.offer(t, 1, onnxtest.MLP(uint64(n), 4, 256, 256, 4))})
		nodes += fmt.Sprintf("  - {name: n%d, model: m%d, inputs: {x: %s}, outputs: {y: y%d}}\n", n+1, n+1, map[bool]string{true: "x", false: fmt.Sprint("y", n)}[n == 0], n+1)
	}
	f.Offer(t.Context(), "g", []serve.Offer{offerGraph(1, 4, nodes, "y3")})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 3 {
				if _, err := f.ask("g", "", "x", 2, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s.reads.Load() < 3 {
		t.Errorf("%d were read", s.reads.Load())
	}
}
