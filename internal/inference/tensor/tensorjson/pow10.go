package tensorjson

import "math/big"

// The powers of ten in the table reach every float32 and the float64s that
// people write; strconv does the others.
const (
	minPow10 = -64
	maxPow10 = 64
)

// pow10 holds the 64 leading bits of 10^k, cut off, at index k-minPow10:
// 10^k = (pow10[k-minPow10]+ε)/2^63 × 2^floorLog2Pow10(k), 0 <= ε < 1.
var pow10 = func() (table [maxPow10 - minPow10 + 1]uint64) {
	ten := big.NewInt(10)
	for k := range maxPow10 + 1 {
		p := new(big.Int).Exp(ten, big.NewInt(int64(k)), nil)
		table[k-minPow10] = leading(new(big.Int).Lsh(p, 64))
		table[-k-minPow10] = leading(new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 320), p))
	}
	return table
}()

// leading returns the top 64 bits of n, which has at least as many.
func leading(n *big.Int) uint64 {
	return new(big.Int).Rsh(n, uint(n.BitLen()-64)).Uint64()
}

// floorLog2Pow10 returns ⌊log2(10^k)⌋ for |k| <= 1233.
func floorLog2Pow10(k int) int { return k * 1741647 >> 19 }

// floorLog10Pow2 returns ⌊log10(2^k)⌋ for |k| <= 1500.
func floorLog10Pow2(k int) int { return k * 1262611 >> 22 }

// floorLog10ThreeQuartersPow2 returns ⌊log10(3/4 × 2^k)⌋ for |k| <= 1500.
func floorLog10ThreeQuartersPow2(k int) int { return (k*1262611 - 524031) >> 22 }
