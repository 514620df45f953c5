package config

import "sluice/internal/platform/typo"

// nearest returns the known name with the smallest edit distance to name; the
// first of equals. It returns "" if nothing is known.
func nearest(name string, known []string) string {
	best, least := "", -1
	for _, k := range known {
		if d := typo.Distance(name, k); least < 0 || d < least {
			best, least = k, d
		}
	}
	return best
}
