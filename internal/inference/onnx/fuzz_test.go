package onnx

import (
	"testing"
	"time"

	"sluice/internal/inference/onnx/onnxtest"
)

func FuzzInspect(f *testing.F) {
	for _, data := range onnxtest.Models() {
		f.Add(data)
	}
	for _, data := range onnxtest.Hostile() {
		if len(data) < 4096 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := processorTime()
		m, err := Inspect(data, DefaultLimits())
		if took := processorTime() - start; took > 5*time.Second {
			t.Fatalf("%d bytes took %v", len(data), took)
		}
		check(t, m, err)
	})
}
