package tensor

import (
	"math/bits"
	"sync"
)

// Slab size classes: powers of two from 1 KiB to 64 MiB. A larger slab is made
// for its one use; up to twice the largest class it is still pooled, anything
// beyond is left to the garbage collector.
const (
	minSlabBits = 10
	maxSlabBits = 26
)

var slabPools [maxSlabBits - minSlabBits + 1]sync.Pool

// Slab is a pooled block of bytes with one owner. The owner may grow B by
// append; Release gives whatever B then is back to the pool.
type Slab struct{ B []byte }

// GetSlab returns a slab with len(B) == 0 and room for at least n bytes. The
// bytes beyond the length are not zeroed.
func GetSlab(n int) *Slab {
	class := max(bits.Len(uint(max(n, 1)-1)), minSlabBits)
	if class > maxSlabBits {
		return &Slab{B: make([]byte, 0, n)}
	}
	if s, ok := slabPools[class-minSlabBits].Get().(*Slab); ok {
		return s
	}
	return &Slab{B: make([]byte, 0, 1<<class)}
}

// Release returns the slab to its pool. Neither the slab nor any view of its
// bytes may be used afterwards. A nil slab is fine.
func (s *Slab) Release() {
	if s == nil {
		return
	}
	// After growth by append the capacity need not be a power of two: file it
	// under the largest class that it can serve.
	class := bits.Len(uint(cap(s.B))) - 1
	if class < minSlabBits || class > maxSlabBits {
		return
	}
	s.B = s.B[:0]
	slabPools[class-minSlabBits].Put(s)
}
