package model

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/inference/tensor"
)

func port(name string, d tensor.Datatype, symbol string, shape ...int64) Port {
	p := Port{Name: name, Datatype: d, Shape: shape, Symbols: make([]string, len(shape))}
	if len(shape) > 0 {
		p.Symbols[0] = symbol
	}
	return p
}

func TestResolveBatching(t *testing.T) {
	fp := tensor.FP32
	for _, c := range []struct {
		name    string
		in, out Port
		cfg     Config
		want    int
	}{
		{"named batch", port("x", fp, "N", -1, 4), port("y", fp, "N", -1, 3), Config{}, 32},
		{"unnamed batch", port("x", fp, "", -1, 4), port("y", fp, "", -1), Config{}, 32},
		{"half named", port("x", fp, "N", -1, 4), port("y", fp, "", -1), Config{}, 32},
		{"different names", port("x", fp, "N", -1, 4), port("y", fp, "M", -1), Config{}, 0},
		{"different names, asked for", port("x", fp, "N", -1, 4), port("y", fp, "M", -1), Config{MaxBatchSize: size(4)}, 4},
		{"fixed input", port("x", fp, "", 1, 4), port("y", fp, "", -1), Config{}, 0},
		{"fixed output", port("x", fp, "", -1, 4), port("y", fp, "", 1), Config{}, 0},
		{"scalar output", port("x", fp, "", -1, 4), port("y", fp, ""), Config{}, 0},
		{"asked not to", port("x", fp, "N", -1, 4), port("y", fp, "N", -1), Config{MaxBatchSize: size(0)}, 0},
		{"dims with the leading one", port("x", fp, "N", -1, 4), port("y", fp, "N", -1), Config{Inputs: []PortConfig{{Name: "x", Dims: tensor.Shape{-1, 4}}}}, 0},
		{"dims without the leading one", port("x", fp, "N", -1, 4), port("y", fp, "N", -1), Config{Inputs: []PortConfig{{Name: "x", Dims: tensor.Shape{4}}}}, 32},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := Resolve(c.cfg, Signature{Inputs: []Port{c.in}, Outputs: []Port{c.out}}, Defaults{})
			if err != nil {
				t.Fatal(err)
			}
			if *got.MaxBatchSize != c.want {
				t.Errorf("max batch size %d, want %d", *got.MaxBatchSize, c.want)
			}
		})
	}
}

func TestResolveFillsAndMerges(t *testing.T) {
	sig := Signature{
		Inputs:  []Port{port("ids", tensor.Int64, "N", -1, -1), port("title", tensor.Bytes, "N", -1)},
		Outputs: []Port{port("scores", tensor.FP32, "N", -1, 3)},
	}
	cfg := Config{
		Name:     "m",
		Inputs:   []PortConfig{{Name: "ids", Dims: tensor.Shape{7}, Optional: true}},
		Outputs:  []PortConfig{{Name: "scores", Dims: tensor.Shape{-1}, Labels: []string{"a", "b", "c"}}},
		Batching: &Batching{MaxQueueDelay: time.Millisecond},
		Warmup:   []Warmup{{Name: "w", Inputs: map[string]WarmupInput{"ids": {}, "title": {}}}},
	}
	asked, read := cfg.clone(), Signature{Inputs: clonePorts(sig.Inputs), Outputs: clonePorts(sig.Outputs)}
	got, merged, err := Resolve(cfg, sig, Defaults{MaxBatch: 8, SLO: time.Second, QueueSize: 5})
	if err != nil {
		t.Fatal(err)
	}
	if cmp.Diff(asked, cfg) != "" || cmp.Diff(read, sig) != "" {
		t.Error("an argument changed")
	}
	want := Config{
		Name: "m", Platform: Platform, Filename: "model.onnx", MaxBatchSize: size(8), SLO: time.Second,
		Inputs:    []PortConfig{{Name: "ids", Datatype: tensor.Int64, Dims: tensor.Shape{7}}, {Name: "title", Datatype: tensor.Bytes, Dims: tensor.Shape{}}},
		Outputs:   []PortConfig{{Name: "scores", Datatype: tensor.FP32, Dims: tensor.Shape{3}, Labels: []string{"a", "b", "c"}}},
		Policy:    VersionPolicy{Latest: 1},
		Batching:  &Batching{MaxQueueDelay: time.Millisecond, MaxQueueSize: 5},
		Execution: Execution{Provider: "cpu", IntraThreads: 1, Optimization: "all"},
		Warmup: []Warmup{{Name: "w", BatchSize: 1, Count: 1, Inputs: map[string]WarmupInput{
			"ids": {Datatype: tensor.Int64, Dims: tensor.Shape{7}}, "title": {Datatype: tensor.Bytes, Dims: tensor.Shape{}},
		}}},
		Warnings: []string{`configuration: input "ids": optional has no effect: the model needs it`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	sig.Inputs[0].Shape = tensor.Shape{-1, 7}
	sig.Outputs[0].Labels = []string{"a", "b", "c"}
	if diff := cmp.Diff(sig, merged); diff != "" {
		t.Error(diff)
	}
}

func TestResolveRefusals(t *testing.T) {
	sig := Signature{
		Inputs:  []Port{port("x", tensor.FP32, "N", -1, 4)},
		Outputs: []Port{port("y", tensor.FP32, "N", -1, 3)},
	}
	fixed := Signature{Inputs: []Port{port("x", tensor.FP32, "", 1, 4)}, Outputs: sig.Outputs}
	wide := Signature{Inputs: []Port{port("x", tensor.FP32, "N", -1, -1)}, Outputs: sig.Outputs}
	warm := func(w Warmup) Config { return Config{Warmup: []Warmup{w}} }
	for _, c := range []struct {
		name string
		sig  Signature
		cfg  Config
		want string
	}{
		{"fixed leading", fixed, Config{MaxBatchSize: size(8), Source: "m/config.pbtxt"}, `m/config.pbtxt: max_batch_size 8 needs a leading dimension that varies, but input "x" of the model has shape [1,4]`},
		{"no such input", sig, Config{Inputs: []PortConfig{{Name: "z"}}}, `input "z" is not one of the model's: it has ["x"]`},
		{"no such output", sig, Config{Outputs: []PortConfig{{Name: "x"}}}, `output "x" is not one of the model's: it has ["y"]`},
		{"datatype", sig, Config{Inputs: []PortConfig{{Name: "x", Datatype: tensor.FP64}}}, `input "x" has datatype FP64, but the model has FP32`},
		{"dims", sig, Config{Inputs: []PortConfig{{Name: "x", Dims: tensor.Shape{5}}}}, `input "x" has dims [5], but the model has [4] after its batch dimension`},
		{"rank", sig, Config{Inputs: []PortConfig{{Name: "x", Dims: tensor.Shape{4, 1, 1}}}}, `has dims [4,1,1], but the model has [4]`},
		{"batch in dims", sig, Config{MaxBatchSize: size(4), Inputs: []PortConfig{{Name: "x", Dims: tensor.Shape{-1, 4}}}}, `has dims [-1,4], but the model has [4] after its batch dimension`},
		{"mixed ranks", sig, Config{Inputs: []PortConfig{{Name: "x", Dims: tensor.Shape{-1, 4}}}, Outputs: []PortConfig{{Name: "y", Dims: tensor.Shape{3}}}}, `output "y" has dims [3], but the model has [-1,3]`},
		{"preferred over the default", sig, Config{Batching: &Batching{PreferredSizes: []int{64}}}, "preferred size 64 is more than the max_batch_size 32"},
		{"warm-up input", sig, warm(Warmup{Name: "w", Inputs: map[string]WarmupInput{"z": {}}}), `warmup "w": input "z" is not one`},
		{"warm-up missing", sig, warm(Warmup{Name: "w"}), `gives no data for input "x"`},
		{"warm-up type", sig, warm(Warmup{Name: "w", Inputs: map[string]WarmupInput{"x": {Datatype: tensor.Int8}}}), "has datatype INT8"},
		{"warm-up dims", sig, warm(Warmup{Name: "w", Inputs: map[string]WarmupInput{"x": {Dims: tensor.Shape{5}}}}), "needs dims without -1 that agree with [4], got [5]"},
		{"warm-up batch", sig, warm(Warmup{Name: "w", BatchSize: 33, Inputs: map[string]WarmupInput{"x": {}}}), "more than the max_batch_size 32"},
		{"warm-up size", wide, warm(Warmup{Name: "w", BatchSize: 2, Inputs: map[string]WarmupInput{"x": {Dims: tensor.Shape{maxElements/2 + 1}}}}), "has more than 134217728 elements in 2 rows of [67108865]"},
		{"warm-up overflow", wide, warm(Warmup{Name: "w", Inputs: map[string]WarmupInput{"x": {Dims: tensor.Shape{1 << 62}}}}), "has more than"},
		{"warm-up rows", fixed, warm(Warmup{Name: "w", BatchSize: 2, Inputs: map[string]WarmupInput{"x": {}}}), "but the model does not batch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Resolve(c.cfg, c.sig, Defaults{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestValidName(t *testing.T) {
	for name, ok := range map[string]bool{
		"iris": true, "Größe 2": true, "a%2Fb": true, strings.Repeat("x", 255): true, "statistics": true,
		"": false, "stats": false, ".": false, "..": false, ".x": false, "_x": false, "a/b": false, `a\b`: false,
		"a\nb": false, "a\x7fb": false, "\xff": false, strings.Repeat("x", 256): false,
	} {
		if err := ValidName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
