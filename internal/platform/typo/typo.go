// Package typo tells how far a name is from one that was meant, so that an
// error can name it. How far is too far is the caller's to say.
package typo

// Distance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment).
func Distance(a, b string) int {
	const limit = 256 // names beyond it are no typing mistakes
	a, b = a[:min(len(a), limit)], b[:min(len(b), limit)]
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			replace := prev[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(prev[j+1]+1, row[j]+1, replace)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
