package engine

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"sluice/internal/inference/tensor"
)

// runMemory is what a session's outputs lie in until Own copies them.
func runMemory(rt *rapid.T, label string) [][]byte {
	sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 24), rapid.IntRange(1000, 5000)), 0, 5).Draw(rt, label)
	outputs := make([][]byte, len(sizes))
	for i, n := range sizes {
		outputs[i] = slices.Repeat([]byte{rapid.Byte().Draw(rt, label+" byte")}, n)
	}
	return outputs
}

// fill gives the part outputs as a session does before it calls Own: views of
// memory that the run takes back.
func fill(p *Part, outputs [][]byte) {
	for i, data := range outputs {
		from := len(p.Dims)
		p.Dims = append(p.Dims, int64(len(data)))
		p.Outputs = append(p.Outputs, tensor.Tensor{
			Name: string(rune('a' + i)), Datatype: tensor.Uint8, Shape: p.Dims[from:len(p.Dims):len(p.Dims)], Data: data,
		})
	}
	p.Inputs = append(p.Inputs, tensor.Tensor{Name: "in"})
	p.Rows = 3
}

// checkOwned compares a part's outputs with what they were made of.
func checkOwned(rt *rapid.T, p *Part, want [][]byte) {
	for i := range p.Outputs {
		out := &p.Outputs[i]
		if !bytes.Equal(out.Data, want[i]) {
			rt.Fatalf("output %d holds %v, expected %v", i, out.Data, want[i])
		}
		if cap(out.Data) != len(out.Data) {
			rt.Fatalf("output %d has room for %d bytes beyond its %d: an append would write into its neighbour", i, cap(out.Data)-len(out.Data), len(out.Data))
		}
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(out.Data))); len(out.Data) > 0 && at%8 != 0 {
			rt.Fatalf("output %d starts at %#x, expected a multiple of 8", i, at)
		}
	}
}

// Many parts are filled, owned, reset and used again in any order, while the
// memory of their runs is overwritten: none ever sees another's bytes.
func TestOwnedOutputsAreNobodyElses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		parts := make([]*Part, 4)
		want := make([][][]byte, len(parts)) // nil: the part is empty
		for i := range parts {
			parts[i] = new(Part)
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			i := rapid.IntRange(0, len(parts)-1).Draw(rt, "part")
			p := parts[i]
			if want[i] != nil {
				p.Reset()
				want[i] = nil
			} else {
				memory := runMemory(rt, "output")
				want[i] = make([][]byte, len(memory))
				for o := range memory {
					want[i][o] = bytes.Clone(memory[o])
				}
				fill(p, memory)
				p.Own()
				for _, m := range memory { // the runtime uses its memory for the next run
					clear(m)
				}
				// The owner may write what it owns, as encoders in place do.
				for o := range p.Outputs {
					for b := range p.Outputs[o].Data {
						p.Outputs[o].Data[b] ^= byte(i + 1)
						want[i][o][b] ^= byte(i + 1)
					}
				}
			}
			for j, p := range parts {
				checkOwned(rt, p, want[j])
			}
		}
		for _, p := range parts {
			p.Reset()
		}
	})
}

func TestResetEmpties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var p Part
		fill(&p, runMemory(rt, "output"))
		if rapid.Bool().Draw(rt, "owned") { // a run that failed left nothing to release
			p.Own()
		}
		inputs, outputs, dims := p.Inputs, p.Outputs, p.Dims
		p.Reset()
		if len(p.Inputs)+len(p.Outputs)+len(p.Dims)+p.Rows != 0 || p.Slab != nil {
			rt.Fatalf("after Reset the part holds %+v", p)
		}
		if cap(p.Inputs) != cap(inputs) || cap(p.Outputs) != cap(outputs) || cap(p.Dims) != cap(dims) {
			rt.Fatal("Reset gave the part's slices away")
		}
		for _, kept := range [][]tensor.Tensor{inputs, outputs} {
			for _, x := range kept {
				if x.Name != "" || x.Data != nil || x.Shape != nil {
					rt.Fatalf("behind the part's end is still %+v: it keeps memory of its last use alive", x)
				}
			}
		}
		p.Reset() // empty already: there is nothing to release twice
	})
}

// A part that is used again allocates nothing.
func TestReuseAllocatesNothing(t *testing.T) {
	var p Part
	memory := [][]byte{make([]byte, 40), make([]byte, 5000)}
	if n := testing.AllocsPerRun(100, func() {
		for _, data := range memory {
			p.Outputs = append(p.Outputs, tensor.Tensor{Data: data})
		}
		p.Own()
		p.Reset()
	}); n >= 1 { // the collector may empty the pool once in a while
		t.Errorf("%v allocations per use, expected none", n)
	}
}
