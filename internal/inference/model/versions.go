package model

import (
	"slices"
	"strings"
)

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

// Versioned returns a configuration that is one version's alone, with a warning
// for what only a whole model can say: which of its versions are served, and what
// they are called.
func Versioned(c Config) Config {
	c = c.clone()
	if len(c.Labels) > 0 {
		c.Labels = nil
		c.Warnings = append(slices.Clip(c.Warnings), "labels: they name versions of a whole model, and have no effect in one version")
	}
	if c.Policy.All || c.Policy.Latest != 0 || len(c.Policy.Specific) > 0 {
		c.Policy = VersionPolicy{}
		c.Warnings = append(slices.Clip(c.Warnings), "version_policy: it chooses versions of a whole model, and has no effect in one version")
	}
	return c
}

// LabelLines splits a label file: line n names class n, so blank lines count, but
// for those at the end.
func LabelLines(s string) []string {
	s = strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
