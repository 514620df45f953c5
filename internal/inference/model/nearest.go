package model

import (
	"strings"

	"sluice/internal/platform/typo"
)

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
		if d := typo.Distance(name, k); d < fewest {
			best, fewest = k, d
		}
	}
	return best
}
