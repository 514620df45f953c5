package tensorjson

import (
	"encoding/binary"
	"math/big"
)

// The powers of ten in the table reach every float32 and the float64s that
// people write; strconv does the others.
const (
	minPow10 = -64
	maxPow10 = 64
)

// pow10 holds the 64 leading bits of 10^k, cut off, at index k-minPow10:
// 10^k = (pow10[k-minPow10]+ε)/2^63 × 2^floorLog2Pow10(k), 0 <= ε < 1.
// pow10Low holds the first 64 bits of ε.
var pow10, pow10Low = func() (high, low [maxPow10 - minPow10 + 1]uint64) {
	ten, one := big.NewInt(10), big.NewInt(1)
	for k := range maxPow10 + 1 {
		p := new(big.Int).Exp(ten, big.NewInt(int64(k)), nil)
		high[k-minPow10], low[k-minPow10] = leading(new(big.Int).Lsh(p, 128))
		high[-k-minPow10], low[-k-minPow10] = leading(new(big.Int).Div(new(big.Int).Lsh(one, 384), p))
	}
	return high, low
}()

// leading returns the top 128 bits of n, which has at least as many.
func leading(n *big.Int) (high, low uint64) {
	var b [16]byte
	n.Rsh(n, uint(n.BitLen()-128)).FillBytes(b[:])
	return binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
}

// floorLog2Pow10 returns ⌊log2(10^k)⌋ for |k| <= 1233.
func floorLog2Pow10(k int) int { return k * 1741647 >> 19 }

// floorLog10Pow2 returns ⌊log10(2^k)⌋ for |k| <= 1500.
func floorLog10Pow2(k int) int { return k * 1262611 >> 22 }
