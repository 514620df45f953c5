// Package streamtest runs small stateful and generative models on the real
// runtime, for the tests of what serves them.
package streamtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/model"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/serve"
)

// Configurations of onnxtest.Rolling.
const (
	Stateful   = "sequence: {state: [{input: state, output: state_out}]}\n"
	Generative = Stateful + "generate: {feedback: [{output: next, input: x}], max_steps: 50, end: {output: next, value: 7}}\n"
)

// MaxSteps and EndValue are those of Generative.
const (
	MaxSteps = 50
	EndValue = 7
)

// Bed is a server of onnxtest.Rolling: as "roll" it is stateful, as "write"
// generative, as "plain" neither.
type Bed struct {
	*serve.Server
	dir string
}

// New returns a running server, which the test's end closes.
func New(t testing.TB) *Bed {
	t.Helper()
	return Recorded(t, nil)
}

// Recorded is New with what takes note of its requests, nil for nothing.
func Recorded(t testing.TB, r serve.Recorder) *Bed {
	t.Helper()
	library, err := ortlib.Locate(context.Background(), ortlib.Config{Path: os.Getenv(ortlib.EnvPath)})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := ortengine.Open(library)
	if err != nil {
		t.Fatal(err)
	}
	b := &Bed{dir: t.TempDir()}
	b.Write(t, "roll", 1, Stateful)
	b.Write(t, "write", 1, Generative)
	b.Write(t, "plain", 1, "")
	repo, err := modelrepo.Open(b.dir, modelrepo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b.Server = serve.New(engine, repo, serve.Config{Defaults: model.Defaults{SLO: time.Minute}, Recorder: r})
	if err := b.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Write puts a version and the model's configuration into the repository.
func (b *Bed) Write(t testing.TB, name string, version int, config string) {
	t.Helper()
	dir := filepath.Join(b.dir, name, strconv.Itoa(version))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{filepath.Join(dir, "model.onnx"): onnxtest.Rolling(), filepath.Join(b.dir, name, "config.yaml"): []byte(config)} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Roll is the model in Go: y of a state and x.
func Roll(state, x int64) int64 { return (31*state + x) % 1000003 }

// Written is what "write" answers to x: y of each step, and why it ended.
func Written(x int64, limit int) (y []int64, ended string) {
	state := int64(0)
	for range limit {
		state = Roll(state, x)
		y, x = append(y, state), state%1000
		if x == EndValue {
			return y, serve.EndValue
		}
	}
	return y, serve.EndSteps
}

// Beginning returns a number from which "write" ends by its end value, within
// the limit.
func Beginning() int64 {
	for x := range int64(1000) {
		if y, ended := Written(x, MaxSteps); ended == serve.EndValue && len(y) > 3 {
			return x
		}
	}
	panic(fmt.Sprintf("no number below 1000 leads to %d", EndValue))
}
