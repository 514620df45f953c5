package onnx

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/platform/fault"
)

// TestSignatureRoundTrips builds models of random ports, weights and nodes,
// and expects to read back what was written.
func TestSignatureRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"1", "3", "16", "batch", "seq", "?", "0"}), 0, 6).Draw(t, "dims"), ",")
		})
		values := func(label string, unknown bool) (vs []onnxtest.Value, ports []model.Port) {
			names := rapid.SliceOfNDistinct(rapid.StringMatching(`[^\x00]{1,12}`), 1, 8, rapid.ID).Draw(t, label)
			for _, n := range names {
				v := onnxtest.Value{Name: n, Type: rapid.SampledFrom(onnxtest.Datatypes()).Draw(t, "type"), Shape: shape.Draw(t, "shape")}
				if unknown && rapid.Bool().Draw(t, "unknown rank") {
					v.Shape = "*"
				}
				p := port(fmt.Sprintf("- %s %s", v.Type, v.Shape))
				p.Name = n
				vs, ports = append(vs, v), append(ports, p)
			}
			return vs, ports
		}
		var m onnxtest.Model
		var want model.Signature
		m.Graph.Inputs, want.Inputs = values("inputs", false)
		m.Graph.Outputs, want.Outputs = values("outputs", true)
		parameters := int64(0)
		for i := range rapid.IntRange(0, 5).Draw(t, "weights") {
			n := rapid.Int64Range(0, 100).Draw(t, "elements")
			w := onnxtest.Floats(fmt.Sprint("\x00w", i), []int64{n, 2}, make([]float32, 2*n)...)
			m.Graph.Initializers = append(m.Graph.Initializers, w)
			if rapid.Bool().Draw(t, "has a default") { // an input with a value is not in the signature
				m.Graph.Inputs = append(m.Graph.Inputs, onnxtest.Value{Name: w.Name, Type: 1, Shape: "?,2"})
			}
			parameters += 2 * n
		}
		nodes := rapid.IntRange(0, 20).Draw(t, "nodes")
		for i := range nodes {
			m.Graph.Nodes = append(m.Graph.Nodes, onnxtest.Node{Op: "Relu", In: []string{"a"}, Out: []string{fmt.Sprint("n", i)},
				Attributes: []onnxtest.Attribute{onnxtest.Ints("list", rapid.SliceOf(rapid.Int64()).Draw(t, "ints")...)}})
		}
		got, err := Inspect(m.Encode(), DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Signature); diff != "" {
			t.Fatal(diff)
		}
		if got.Nodes != nodes || got.Parameters != parameters {
			t.Fatalf("%d nodes and %d parameters, want %d and %d", got.Nodes, got.Parameters, nodes, parameters)
		}
	})
}

// cost runs Inspect and returns what it allocated and its CPU time, which
// other programs do not change. The bytes are all that was allocated, a bound
// on what was held at once.
func cost(data []byte) (bytes uint64, took time.Duration, m *Model, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := processorTime()
	m, err = Inspect(data, DefaultLimits())
	took = processorTime() - start
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, took, m, err
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestMutations flips, cuts, copies and inserts bytes of honest models: the
// result is refused with a classified error or described, at little cost, and
// what is accepted stays within the limits.
func TestMutations(t *testing.T) {
	var seeds [][]byte
	for _, data := range onnxtest.Models() {
		seeds = append(seeds, data)
	}
	slices.SortFunc(seeds, bytes.Compare)
	rapid.Check(t, func(t *rapid.T) {
		data := bytes.Clone(rapid.SampledFrom(seeds).Draw(t, "model"))
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			data = mutate(t, data)
		}
		allocated, took, m, err := cost(data)
		if allocated > 1<<20 || took > time.Second {
			t.Fatalf("%d bytes took %v and allocated %d bytes", len(data), took, allocated)
		}
		check(t, m, err)
	})
}

func mutate(t *rapid.T, data []byte) []byte {
	if len(data) == 0 {
		return data
	}
	at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
	switch rapid.SampledFrom([]string{"flip", "set", "cut", "insert", "repeat"}).Draw(t, "change") {
	case "flip":
		data[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	case "set":
		data[at] = rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xff}).Draw(t, "byte")
	case "cut":
		return data[:at]
	case "insert":
		return slices.Insert(data, at, rapid.SliceOfN(rapid.Byte(), 1, 10).Draw(t, "bytes")...)
	case "repeat":
		end := min(len(data), at+rapid.IntRange(1, 64).Draw(t, "length"))
		return slices.Insert(data, at, bytes.Clone(data[at:end])...)
	}
	return data
}

// check holds for the answer to any data.
func check(t interface{ Fatalf(string, ...any) }, m *Model, err error) {
	if err != nil {
		if fault.Is(err, fault.Internal) || len(err.Error()) > 4000 {
			t.Fatalf("unexpected error %v", err)
		}
		return
	}
	nodes := 0
	for _, n := range m.Operators {
		nodes += n
	}
	limits := DefaultLimits()
	if nodes != m.Nodes || nodes > limits.MaxNodes || m.Parameters < 0 || len(m.Signature.Outputs) == 0 {
		t.Fatalf("implausible description %+v", m)
	}
	for _, p := range slices.Concat(m.Signature.Inputs, m.Signature.Outputs) {
		if p.Name == "" || p.Datatype.String() == "INVALID" || len(p.Shape) > limits.MaxDims ||
			p.Symbols != nil && len(p.Symbols) != len(p.Shape) || slices.ContainsFunc(p.Shape, func(d int64) bool { return d < -1 }) {
			t.Fatalf("implausible port %+v", p)
		}
	}
}

// TestHostileFilesAreCheap has large files that try to make the gate slow or
// large: whatever the answer, it comes soon and allocates little.
func TestHostileFilesAreCheap(t *testing.T) {
	const size = 32 << 20
	graph := func(g []byte) []byte { return edit(func(m *onnxtest.Model) { m.Graph.Extra = g }) }
	node := func(n []byte) []byte { return edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Extra = n }) }
	repeat := func(part []byte, n int) []byte { return bytes.Repeat(part, n) }
	field := onnxtest.Field[[]byte]
	named := func(of func(i int) []byte, n int) []byte {
		var b []byte
		for i := range n {
			b = append(b, of(i)...)
		}
		return b
	}
	shape32 := onnxtest.Int64s("s", make([]int64, 32)...)
	for name, data := range map[string][]byte{
		"empty nodes":      graph(repeat([]byte{1<<3 | 2, 0}, size/2)),
		"empty tensors":    graph(repeat([]byte{5<<3 | 2, 0}, size/2)),
		"empty values":     graph(repeat([]byte{13<<3 | 2, 0}, size/2)),
		"empty inputs":     node(repeat([]byte{1<<3 | 2, 0}, size/2)),
		"empty attributes": node(repeat([]byte{5<<3 | 2, 0}, size/2)),
		"empty subgraphs":  node(field(nil, 5, append([]byte{1<<3 | 2, 1, 'a'}, repeat([]byte{11<<3 | 2, 0}, size/2)...))),
		"empty functions":  edit(func(m *onnxtest.Model) { m.Extra = repeat([]byte{0xca, 1, 0}, size/3) }),
		"empty metadata":   edit(func(m *onnxtest.Model) { m.Extra = repeat([]byte{14<<3 | 2, 0}, size/2) }),
		"unpacked ints":    node(field(nil, 5, append([]byte{1<<3 | 2, 1, 'a'}, repeat([]byte{8 << 3, 1}, size/2)...))),
		"packed ints":      withTensor(onnxtest.Tensor{Name: "w", Type: 7, Dims: []int64{size}, Extra: field(nil, 7, make([]byte, size))}),
		"raw data":         withTensor(onnxtest.Tensor{Name: "w", Type: 2, Dims: []int64{size}, Raw: make([]byte, size)}),
		"doc string":       node(field(nil, 6, make([]byte, size))),
		"inputs": graph(named(func(i int) []byte {
			return field(nil, 11, onnxtest.Value{Name: fmt.Sprint(i), Type: 1, Shape: "1"}.Encode())
		}, 190_000)),
		"small constants": graph(named(func(i int) []byte {
			shape32.Name = fmt.Sprint(i)
			return field(nil, 5, shape32.Encode())
		}, 49_000)),
		"long names": graph(named(func(i int) []byte {
			return field(nil, 5, onnxtest.Int64s(fmt.Sprintf("%d%s", i, strings.Repeat("n", 1300)), 1).Encode())
		}, 49_000)),
		"constant nodes": graph(named(func(i int) []byte {
			return field(nil, 1, onnxtest.Node{Op: "Constant", Out: []string{fmt.Sprint(i)}, Attributes: []onnxtest.Attribute{onnxtest.Ints("value_ints", make([]int64, 32)...)}}.Encode())
		}, 99_000)),
		// One shape of 32 MB that every node asks for.
		"shared shape": edit(func(m *onnxtest.Model) {
			m.Graph.Initializers = []onnxtest.Tensor{{Name: "s", Type: 7, Dims: []int64{size / 2}, Extra: field(nil, 7, make([]byte, size/2))}}
			m.Graph.Extra = repeat(field(nil, 1, onnxtest.Node{Op: "Relu", In: []string{"s"}, Out: []string{"z"}}.Encode()), 99_000)
		}),
		"calls": edit(func(m *onnxtest.Model) {
			m.Opsets = []onnxtest.Opset{{Version: 17}, {Domain: "d", Version: 1}}
			for i := range 1999 {
				f := onnxtest.Function{Name: fmt.Sprint(i), Domain: "d", Opsets: m.Opsets}
				for j := range min(i, 40) {
					f.Nodes = append(f.Nodes, onnxtest.Node{Op: fmt.Sprint(i - 1 - j), Domain: "d", Out: []string{"z"}})
				}
				m.Functions = append(m.Functions, f)
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			allocated, took, m, err := cost(data)
			t.Logf("%d MB: %v, %d KB allocated (%v)", len(data)>>20, took, allocated>>10, err)
			check(t, m, err)
			if allocated > 48<<20 || took > 20*time.Second {
				t.Errorf("took %v and allocated %d MB", took, allocated>>20)
			}
		})
	}
}
