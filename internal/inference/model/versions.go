package model

import "slices"

// Choose returns the versions to serve of those available, ascending and
// without repeats. A specific version that is not available is left out.
func (p VersionPolicy) Choose(available []int64) []int64 {
	sorted := slices.Compact(slices.Sorted(slices.Values(available)))
	switch {
	case len(p.Specific) > 0:
		return slices.DeleteFunc(sorted, func(v int64) bool { return !slices.Contains(p.Specific, v) })
	case p.All:
		return sorted
	}
	return sorted[max(0, len(sorted)-max(p.Latest, 1)):]
}
