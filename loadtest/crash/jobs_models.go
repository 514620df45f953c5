package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sluice/internal/inference/onnx/onnxtest"
	"sluice/loadtest/crash/ledger"
)

// lookupSize is the size of the lookup model's table: its run fails for an index
// beyond that.
const lookupSize = 64

// modelFiles are models beside those of the repository: one whose run can be made
// to fail, one whose run takes a while, and the killer.
func modelFiles() map[string][]byte {
	return map[string][]byte{"lookup": onnxtest.QuantizedLookup(lookupSize), "slow": onnxtest.Slow(60_000), killer: onnxtest.MLP(1, 4, 3)}
}

// writeModels makes the repository of models that the campaign asks.
func writeModels(dir string) error {
	for _, name := range []string{"identity_fp32", "iris", "digits"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("models", name))); err != nil {
			return err
		}
	}
	for name, data := range modelFiles() {
		path := filepath.Join(dir, name, "1")
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(path, "model.onnx"), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// question makes the inputs for a prediction of a kind, and chooses the model.
func question(rng *rand.Rand, kind ledger.Kind) (model string, inputs json.RawMessage) {
	if kind == ledger.Killer {
		return killer, tensors(floats(rng, "x", 1, 4))
	}
	if kind == ledger.Poison && rng.IntN(2) == 0 {
		return "iris", tensors(strings.Replace(floats(rng, "input", 1, 4), "[1,4]", "[1,5]", 1))
	}
	switch dice := rng.IntN(100); {
	case kind == ledger.Poison:
		return "lookup", tensors(integers(rng, "x", lookupSize, 1000), integers(rng, "kind", -2, 2))
	case dice < 30:
		return "identity_fp32", tensors(floats(rng, "input", 1+rng.IntN(3), 4+rng.IntN(4)))
	case dice < 34: // its input and output are too large to be kept in the store
		return "identity_fp32", tensors(floats(rng, "input", 8, 1024))
	case dice < 60:
		return "iris", tensors(floats(rng, "input", 1+rng.IntN(3), 4))
	case dice < 75:
		return "digits", tensors(floats(rng, "image", 1, 1, 8, 8))
	case dice < 90:
		return "lookup", tensors(integers(rng, "x", 0, lookupSize), integers(rng, "kind", -2, 2))
	default:
		return "slow", tensors(floats(rng, "x", 1, 64))
	}
}

func tensors(all ...string) json.RawMessage {
	return json.RawMessage("[" + strings.Join(all, ",") + "]")
}

// floats is a tensor of random numbers, which no other has.
func floats(rng *rand.Rand, name string, shape ...int) string {
	return tensor(name, "FP32", shape, func() string { return fmt.Sprintf("%.6f", rng.Float64()*4) })
}

// integers is a tensor of integers from low to below high, two rows of four.
func integers(rng *rand.Rand, name string, low, high int) string {
	return tensor(name, "INT64", []int{2, 4}, func() string { return strconv.Itoa(low + rng.IntN(high-low)) })
}

func tensor(name, datatype string, shape []int, value func() string) string {
	n, dims := 1, make([]string, len(shape))
	for i, d := range shape {
		n, dims[i] = n*d, strconv.Itoa(d)
	}
	values := make([]string, n)
	for i := range values {
		values[i] = value()
	}
	return fmt.Sprintf(`{"name":%q,"datatype":%q,"shape":[%s],"data":[%s]}`, name, datatype, strings.Join(dims, ","), strings.Join(values, ","))
}
