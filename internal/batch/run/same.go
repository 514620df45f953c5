package run

import (
	"bytes"
	"hash/maphash"
	"math"
)

// sampled is how many bytes of a row are hashed at first: to read all of it takes as long as everything else that is
// done to find equal rows.
const sampled = 64

// collapse finds rows that are equal, byte for byte, and returns those that have to be
// run. It takes a few bytes for each row of the chunk.
func (p *pass) collapse() []int {
	seed := maphash.MakeSeed()
	var some [sampled]byte
	run, done := p.distinct(func(row []byte) uint64 { return maphash.Bytes(seed, sample(row, &some)) }, len(p.todo))
	if !done { // many rows differ elsewhere only
		run, _ = p.distinct(func(row []byte) uint64 { return maphash.Bytes(seed, row) }, math.MaxInt)
	}
	return run
}

// sample returns a row's sample, which is the row itself where it is short.
func sample(row []byte, into *[sampled]byte) []byte {
	const word = 8
	if len(row) <= sampled {
		return row
	}
	for i := 0; i < sampled; i += word {
		copy(into[i:i+word], row[(len(row)-word)*i/(sampled-word):])
	}
	return into[:]
}

// distinct is collapse by a hash of a row's share of each tensor. It gives up where rows have the hash of others that they
// do not equal more often than most says.
func (p *pass) distinct(hash func([]byte) uint64, most int) (run []int, done bool) {
	type slot struct {
		hash uint32
		row  int32 // of the first of its kind, from 1
	}
	size := 1
	for size < 2*len(p.todo) {
		size *= 2
	}
	slots, same, unlike := make([]slot, size), make([]int32, len(p.chunk.Good)), 0
	run = make([]int, 0, len(p.todo))
	for _, n := range p.todo {
		h := p.hash(hash, n)
		at := int(h>>32) & (size - 1)
		for ; slots[at].row != 0; at = (at + 1) & (size - 1) {
			if slots[at].hash != uint32(h) {
				continue
			}
			if p.equal(int(slots[at].row-1), n) {
				break
			}
			if unlike++; unlike > most {
				return nil, false
			}
		}
		if first := slots[at].row; first != 0 {
			same[n] = first - 1
			continue
		}
		same[n], slots[at] = int32(n), slot{uint32(h), int32(n + 1)}
		run = append(run, n)
	}
	if p.reused = len(p.todo) - len(run); p.reused > 0 {
		p.same = same
	}
	return run, true
}

// hash is that of a row.
func (p *pass) hash(hash func([]byte) uint64, n int) (h uint64) {
	for i := range p.chunk.Tensors {
		h = h*0x9e3779b97f4a7c15 + hash(p.chunk.Tensors[i].Slice(n, n+1))
	}
	return h
}

func (p *pass) equal(a, b int) bool {
	for i := range p.chunk.Tensors {
		if t := &p.chunk.Tensors[i]; !bytes.Equal(t.Slice(a, a+1), t.Slice(b, b+1)) {
			return false
		}
	}
	return true
}
