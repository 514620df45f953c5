// Command soak swaps a model many times under traffic and reports whether a
// request failed and how much of the memory came back.
//
//	go run ./loadtest/soak -swaps 300
//
// It exits with status 1 where a request failed, or where the memory after
// the last swap exceeds that after the first tenth by more than -growth MB.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
)

func main() {
	swaps := flag.Int("swaps", 300, "how often the model is replaced")
	clients := flag.Int("clients", 2, "concurrent clients")
	growth := flag.Float64("growth", 24, "most megabytes by which memory may grow after the first tenth of the swaps")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "soak: %q is no flag, and what follows it would not be read\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := soak(context.Background(), *swaps, *clients, *growth); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// model is a 784-512-256-10 perceptron of 2 MB.
func model(seed int) []byte { return onnxtest.MLP(uint64(seed), 784, 512, 256, 10) }

func soak(ctx context.Context, swaps, clients int, growth float64) error {
	dir, err := os.MkdirTemp("", "sluice-soak")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := open(ctx, dir)
	if err != nil {
		return err
	}
	empty := residentMB()
	if err := swap(ctx, s, dir, 0); err != nil {
		return err
	}
	t := traffic{server: s, stop: make(chan struct{})}
	t.start(clients)
	var settled float64
	for i := 1; i <= swaps; i++ {
		if err := swap(ctx, s, dir, i); err != nil {
			return err
		}
		if i == max(swaps/10, 1) {
			settled = residentMB()
		}
	}
	t.end()
	loaded := residentMB()
	if err := s.Unload(ctx, "mlp"); err != nil {
		return err
	}
	debug.FreeOSMemory()
	fmt.Printf("swaps %d, requests answered %d, failed %d\n", swaps, t.answered.Load(), t.failed.Load())
	fmt.Printf("resident MB: without a model %.0f, after a tenth of the swaps %.0f, after all %.0f, unloaded %.0f\n", empty, settled, loaded, residentMB())
	switch {
	case t.failed.Load() > 0:
		return fmt.Errorf("%d requests failed, the first with: %v", t.failed.Load(), t.first.Load())
	case loaded-settled > growth:
		return fmt.Errorf("memory grew by %.1f MB, more than %.1f", loaded-settled, growth)
	}
	return nil
}

func open(ctx context.Context, dir string) (*serve.Server, error) {
	library, err := ortlib.Locate(ctx, ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
	if err != nil {
		return nil, err
	}
	engine, err := ortengine.Open(library)
	if err != nil {
		return nil, err
	}
	repo, err := modelrepo.Open(dir, modelrepo.Limits{})
	if err != nil {
		return nil, err
	}
	s := serve.New(engine, repo, serve.Config{})
	return s, s.Start(ctx)
}

// swap puts another model file into the repository, whole, and has it loaded.
func swap(ctx context.Context, s *serve.Server, dir string, seed int) error {
	path := filepath.Join(dir, "mlp", "1", "model.onnx")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// The objective is long: the question is whether a swap fails a request, not
	// how fast a machine is that loads models all the time.
	if err := os.WriteFile(filepath.Join(dir, "mlp", "config.yaml"), []byte("slo: 10s\n"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", model(seed), 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return s.Load(ctx, "mlp", serve.LoadOptions{})
}

// traffic is clients that ask without pause.
type traffic struct {
	server           *serve.Server
	stop             chan struct{}
	wg               sync.WaitGroup
	answered, failed atomic.Int64
	first            atomic.Value
}

func (t *traffic) start(clients int) {
	for range clients {
		t.wg.Go(func() {
			for {
				select {
				case <-t.stop:
					return
				default:
				}
				if err := t.server.Predict(context.Background(), row{}); err != nil {
					t.first.CompareAndSwap(nil, err.Error())
					t.failed.Add(1)
				} else {
					t.answered.Add(1)
				}
			}
		})
	}
}

func (t *traffic) end() {
	close(t.stop)
	t.wg.Wait()
}

// row is the codec of one row of zeros.
type row struct{}

var zeros [4 * 784]byte

func (row) Target() (model, version string) { return "mlp", "" }

func (row) Decode(_ context.Context, _ *serve.Version, r *serve.Request) error {
	r.Inputs = append(r.Inputs, tensor.Tensor{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{1, 784}, Data: zeros[:]})
	return nil
}

func (row) Encode(_ context.Context, _ *serve.Version, r *serve.Response) error {
	if len(r.Outputs) != 1 || !r.Outputs[0].Shape.Equal(tensor.Shape{1, 10}) {
		return fmt.Errorf("wrong answer: %v", r.Outputs)
	}
	return nil
}

// residentMB is the process's resident memory, from the kernel.
func residentMB() float64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return float64(pages) * float64(os.Getpagesize()) / 1e6
}
