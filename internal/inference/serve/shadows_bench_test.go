package serve_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/route"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/shadow"
	"sluice/internal/inference/tensor"
)

// judge counts what it is told.
type judge struct{ compared, dropped, failed atomic.Int64 }

func (j *judge) Compare(*route.Pair) shadow.Difference {
	j.compared.Add(1)
	return shadow.Difference{}
}
func (j *judge) Failed()                { j.failed.Add(1) }
func (j *judge) Dropped(shadow.Dropped) { j.dropped.Add(1) }

// beside is a server of a model whose requests a second version shadows, if there is
// a judge.
func beside(b testing.TB, j *judge) *fixture {
	b.Helper()
	f := newFixture(b, serve.Config{}, map[string][]byte{
		"mlp/1/model.onnx": onnxtest.MLP(1, 4, 256, 3), "mlp/2/model.onnx": onnxtest.MLP(2, 4, 256, 3), "mlp/config.yaml": []byte("version_policy: {all: true}\n"),
	})
	digest := func(version string) string {
		v, err := f.Lookup("mlp", version)
		if err != nil {
			b.Fatal(err)
		}
		return v.SHA256
	}
	all, err := experiment.Allocate(experiment.Arm{Name: "a", Weight: experiment.Total})
	if err != nil {
		b.Fatal(err)
	}
	plan, err := experiment.Compile(experiment.Config{Salt: "x", Allocation: all})
	if err != nil {
		b.Fatal(err)
	}
	split := &route.Split{ID: "exp_1", Plan: plan, Arms: []route.Arm{{Name: "a", Digest: digest("1")}}}
	if j != nil {
		split.Shadow = &route.Shadow{Name: "b", Digest: digest("2"), Sample: 1, Judge: j}
	}
	f.Name(map[string]route.Names{"mlp": {"": {Version: 1, Split: split}}})
	return f
}

// What a shadow of every request adds to requests: nothing at saturation, and to a
// server with spare cores a copy of the inputs. Compare the 99th percentiles of
//
//	go test ./internal/inference/serve -run - -bench Beside -count 6
func BenchmarkBesideShadow(b *testing.B) {
	for name, j := range map[string]*judge{"without": nil, "with": {}} {
		f := beside(b, j)
		for load, clients := range map[string]int{"one": 0, "saturated": 8} {
			b.Run(load+"/"+name, func(b *testing.B) {
				var mu sync.Mutex
				var took []time.Duration
				b.SetParallelism(max(clients, 1))
				b.ReportAllocs()
				ask := func(next func() bool) {
					r := &request{model: "mlp", in: serve.Request{Inputs: []tensor.Tensor{enginetest.Floats("x", 1, 0)}}}
					var own []time.Duration
					for next() {
						r.out = r.out[:0]
						began := time.Now()
						if err := f.Predict(b.Context(), r); err != nil {
							b.Error(err)
							return
						}
						own = append(own, time.Since(began))
					}
					mu.Lock()
					defer mu.Unlock()
					took = append(took, own...)
				}
				if clients == 0 {
					ask(b.Loop)
				} else {
					b.RunParallel(func(p *testing.PB) { ask(p.Next) })
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
				if j != nil {
					b.ReportMetric(float64(j.compared.Swap(0))/float64(b.N), "compared/op")
				}
			})
		}
	}
}
