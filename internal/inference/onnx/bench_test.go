package onnx

import (
	"bytes"
	"fmt"
	"testing"

	"sluice/internal/inference/onnx/onnxtest"
)

func BenchmarkInspect(b *testing.B) {
	many := edit(func(m *onnxtest.Model) {
		for i := range 5000 {
			m.Graph.Nodes = append(m.Graph.Nodes, onnxtest.Node{Op: "Conv", Name: fmt.Sprint("layer/block/conv_", i),
				In: []string{"x", "w", "b"}, Out: []string{fmt.Sprint("z", i)},
				Attributes: []onnxtest.Attribute{onnxtest.Ints("kernel_shape", 3, 3), onnxtest.Ints("pads", 1, 1, 1, 1), onnxtest.Int("group", 1)}})
		}
	})
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"small", onnxtest.MLP(1, 4, 16, 3)},
		{"mid", onnxtest.MLP(1, 784, 512, 256, 10)},
		{"nodes", many},
		{"weights", withTensor(onnxtest.Tensor{Name: "w", Type: 2, Dims: []int64{64 << 20}, Raw: make([]byte, 64<<20)})},
	} {
		// The digest is most of the time: "checks" leaves it out.
		b.Run(c.name+"/all", func(b *testing.B) {
			measure(b, c.data, func() error {
				_, err := Inspect(c.data, DefaultLimits())
				return err
			})
		})
		b.Run(c.name+"/checks", func(b *testing.B) {
			limits := DefaultLimits()
			measure(b, c.data, func() error {
				if err := checkStructure(c.data, &limits); err != nil {
					return err
				}
				return newInspector(&limits).file(c.data)
			})
		})
	}
	b.Run("hostile", func(b *testing.B) { // 10 MB of small parts
		data := edit(func(m *onnxtest.Model) {
			m.Graph.Nodes[0].Extra = onnxtest.Field(nil, 5, append([]byte{1<<3 | 2, 1, 'a'}, bytes.Repeat([]byte{8 << 3, 1}, 5<<20)...))
		})
		measure(b, data, func() error {
			_, err := Inspect(data, DefaultLimits())
			return err
		})
	})
}

// measure adds the rate per CPU second, which a busy machine does not change.
func measure(b *testing.B, data []byte, run func() error) {
	b.ReportAllocs()
	start := processorTime()
	for b.Loop() {
		if err := run(); err != nil {
			b.Fatal(err)
		}
	}
	cpu := processorTime() - start
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(len(data))*float64(b.N)/float64(cpu.Nanoseconds()), "GB/cpu-s")
}
