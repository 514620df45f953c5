// Package typo finds the name that was meant by one that is not known, so that
// an error can suggest it.
package typo

import "strings"

// Nearest returns the known name that was probably meant, or "" where none is
// close: the one with the fewest slips (see Distance), at most one for every
// three letters and the first of equals, else the only one that contains the
// name, or is part of it, by more than half. Upper and lower case are equal.
func Nearest(name string, known []string) string {
	name = strings.ToLower(name)
	best, least := "", 1+max(1, len(name)/3)
	for _, k := range known {
		if max(len(k)-len(name), len(name)-len(k)) >= least {
			continue
		}
		if d := Distance(name, strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return best
	}
	for _, k := range known {
		short, long := name, strings.ToLower(k)
		if len(short) > len(long) {
			short, long = long, short
		}
		if 2*len(short) <= len(long) || !strings.Contains(long, short) {
			continue
		}
		if best != "" {
			return "" // either may be meant
		}
		best = k
	}
	return best
}

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
