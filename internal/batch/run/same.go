package run

import (
	"bytes"
	"hash/maphash"
)

// collapse finds rows that are equal, byte for byte, and returns those that have to be
// run. It takes a few bytes for each row of the chunk.
func (p *pass) collapse() []int {
	slots := make([]int32, 1) // n+1 of a first row, by its hash
	for len(slots) < 2*len(p.todo) {
		slots = make([]int32, 2*len(slots))
	}
	seed, mask := maphash.MakeSeed(), uint64(len(slots)-1)
	same := make([]int32, len(p.chunk.Good))
	run := make([]int, 0, len(p.todo))
	for _, n := range p.todo {
		same[n] = int32(n)
		at := p.hash(seed, n) & mask
		for slots[at] != 0 && !p.equal(int(slots[at]-1), n) {
			at = (at + 1) & mask
		}
		if slots[at] != 0 {
			same[n] = slots[at] - 1
			continue
		}
		slots[at] = int32(n + 1)
		run = append(run, n)
	}
	if p.reused = len(p.todo) - len(run); p.reused > 0 {
		p.same = same
	}
	return run
}

func (p *pass) hash(seed maphash.Seed, n int) uint64 {
	h := uint64(0)
	for i := range p.chunk.Tensors {
		h = h*0x9e3779b97f4a7c15 + maphash.Bytes(seed, p.chunk.Tensors[i].Slice(n, n+1))
	}
	return h ^ h>>32
}

func (p *pass) equal(a, b int) bool {
	for i := range p.chunk.Tensors {
		if t := &p.chunk.Tensors[i]; !bytes.Equal(t.Slice(a, a+1), t.Slice(b, b+1)) {
			return false
		}
	}
	return true
}
