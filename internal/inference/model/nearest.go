package model

import "strings"

// nearest returns the known key that was probably meant by name: one that
// it starts or is started by, else the one with the fewest letters to change, or ""
// where none is close.
func nearest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	best, fewest := "", max(1, len(name)/3)+1
	for _, k := range known {
		if len(name) > 3 && (strings.HasPrefix(k, name) || strings.HasPrefix(name, k)) {
			return k
		}
		if d := editDistance(name, k); d < fewest {
			best, fewest = k, d
		}
	}
	return best
}

// editDistance is the number of bytes to insert, remove or replace to make a
// into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
